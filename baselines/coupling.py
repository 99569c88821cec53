"""Coupling: which channels can only go together, by torch-pruning, and what is left without some of them."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.steps import Removed, Size
from compress.cost import macs_by_module
from compress.errors import UsageError
from compress.networks import Network, Spec
from compress.networks.heads import OWN

# torch_pruning.__version__ disagrees with the distribution's.
TORCH_PRUNING = metadata.version("torch-pruning")
Convolution = nn.modules.conv._ConvNd  # transposed or not


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that residual additions, depthwise and grouped convolutions couple.

    Attributes:
        units: how many can be removed one by one.
        ways: channels a unit: one in every group of a grouped convolution.
        joined: whether several convolutions write these channels, as into a residual stream.
    """

    units: int
    ways: int
    joined: bool


class Coupling:
    """The groups of a network, and its size without some of their units, counted without building it.

    The size is that of `compress.cost` for the last exit. A parameter has so many entries as the product of its widths,
    and a layer's MACs go with its weight's entries, each of which is used once a position.
    """

    def __init__(self, network: Network) -> None:
        self.before = Size.of(network)
        copied = copy.deepcopy(network)
        with prunable(network.spec):
            graph, groups = dependencies(copied)
            by_name = macs_by_module(copied)
            macs = {module: by_name[name] for name, module in copied.named_modules()}
            self.groups = tuple(
                Group(units=units_of(group), ways=_ways(group), joined=_writers(graph, group, macs) > 1)
                for group in groups
            )
            self._count(graph, groups, macs, _last_path(copied))

    def size(self, removed: Removed) -> Size:
        """What is left without so many units of every group."""
        gone = self._shapes.prod(axis=1) - (self._shapes - self._lost @ np.array(removed)).prod(axis=1)
        return Size(self.before.macs - round(self._macs @ gone), self.before.params - round(gone.sum()))

    def within(self, scope: str) -> Scoped:
        """All groups, or the inner ones: those that are not joined."""
        numbers = [number for number, group in enumerate(self.groups) if scope == "all" or not group.joined]
        return Scoped(coupling=self, numbers=tuple(numbers))

    def _count(self, graph: Any, groups: list[Any], macs: dict[nn.Module, int], path: set[nn.Module]) -> None:
        """Lay down, parameter by parameter, how their shapes, and MACs with them, follow from the groups' units."""
        counted = {parameter for module in path for parameter in module.parameters(recurse=False)}
        dimensions, layers = max(parameter.dim() for parameter in counted), set[Any]()
        lost: dict[nn.Parameter, Any] = {}  # entries of every dimension that a unit of every group takes
        for number, group in enumerate(groups):
            units = self.groups[number].units
            for layer, is_output, indices in _touched(graph, group):
                if layer in path:
                    with layer_named(graph.module2node[layer], graph.model):
                        _check_share(graph, layer, is_output, indices, units)
            for layer, parameter, entries in _lost(group, units):
                if parameter in counted:
                    layers.add(layer)
                    lost.setdefault(parameter, np.zeros((dimensions, len(groups))))[: len(entries), number] = entries
        once = dict.fromkeys(lost, 0.0)  # MACs an entry: as many as there are positions
        for layer in layers:
            weights = [parameter for parameter in _parameters(layer) if parameter.dim() > 1]
            for weight in lost.keys() & weights:
                once[weight] += macs.get(layer, 0) / sum(parameter.numel() for parameter in weights)
        shapes = [(*parameter.shape, *[1] * (dimensions - parameter.dim())) for parameter in lost]
        self._lost = np.array(list(lost.values())).reshape(len(lost), dimensions, len(groups))
        self._shapes = np.array(shapes, float).reshape(len(lost), dimensions)
        self._macs = np.array(list(once.values()))


@dataclass(frozen=True, kw_only=True)
class Scoped:
    """Those groups of a coupling that may be narrowed, by their numbers there."""

    coupling: Coupling
    numbers: tuple[int, ...]

    @property
    def groups(self) -> list[Group]:
        """The groups themselves."""
        return [self.coupling.groups[number] for number in self.numbers]

    @property
    def units(self) -> tuple[int, ...]:
        """Of every one, how many units it has."""
        return tuple(group.units for group in self.groups)

    def size(self, removed: Removed) -> Size:
        """What is left of the network without so many units of every one."""
        whole = [0] * len(self.coupling.groups)
        for number, count in zip(self.numbers, removed, strict=True):
            whole[number] = count
        return self.coupling.size(tuple(whole))


@contextlib.contextmanager
def prunable(spec: Spec) -> Iterator[None]:
    """Say in one line that torch-pruning cannot prune somebody else's net; in ours an error is an error."""
    try:
        yield
    except Exception as error:
        if not spec.foreign or isinstance(error, UsageError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{spec.arch} cannot be pruned: torch-pruning does not know one of its layers, or its code names a width "
            f"({reason})"
        ) from error


def dependencies(network: Network) -> tuple[Any, list[Any]]:
    """torch-pruning's dependency graph of the network, and its groups of channels that can only go together."""
    import torch_pruning  # here, as importing it takes seconds

    graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), (blank(network),), verbose=False)
    groups = list(graph.get_all_groups(ignored_layers=classifiers(network)))
    _check_shared(network, graph, groups)
    return graph, groups


def classifiers(network: Network) -> list[nn.Module]:
    """The layers of all heads, and so the classes, which no pruning may touch.

    As modules: given as a type they would be ignored in silence, and the classes pruned away.
    """
    kept = _layers(network.heads)
    if network.spec.exits[-1].head == OWN and not _layers(list(network.heads.values())[-1]):
        kept.append(_layers(network.blocks[-1])[-1])  # a classifier before pooling, as SqueezeNet's
    return kept


def blank(network: Network) -> Tensor:
    """Two blank images, as batch norm in train mode needs."""
    parameter = next(network.parameters())
    return torch.zeros(2, *network.spec.input_shape, device=parameter.device, dtype=parameter.dtype)


def units_of(group: Any) -> int:
    """How many channels of one of torch-pruning's groups can be removed one by one: see `Group`."""
    return len(group[0].idxs) // _ways(group)


def in_the_net(network: Network, name: str) -> str:
    """The name that a module or weight of a network has in the net that it is made of: ``layer1.0.conv1``."""
    parts = name.split(".", 2)
    return parts[2] if network.spec.foreign and len(parts) == 3 else name


@contextlib.contextmanager
def layer_named(node: Any, network: Network) -> Iterator[None]:
    """Name in any error the layer of a node of torch-pruning's graph."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{in_the_net(network, node.name.split()[0])}: {error}") from error


@contextlib.contextmanager
def module_named(network: Network) -> Iterator[None]:
    """Name in any error of a forward pass the last module that was reached: it is in it, or in the code behind it."""
    reached = [""]
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: reached.append(name))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    try:
        yield
    except Exception as error:
        raise ValueError(f"at {in_the_net(network, reached[-1])}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()


def _layers(part: nn.Module) -> list[nn.Module]:
    return [layer for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def _last_path(network: Network) -> set[nn.Module]:
    """The modules that the last exit runs through."""
    parts = [network.stem, network.blocks, list(network.heads.values())[-1]]
    return {module for part in parts for module in part.modules()}


def _touched(graph: Any, group: Any) -> Iterator[tuple[Any, bool, set[int]]]:
    """Every layer that a group reaches, whether on its output side, and the indices there."""
    reached: dict[tuple[Any, bool], set[int]] = {}
    for dep, indices in group:
        key = dep.target.module, bool(graph.is_out_channel_pruning_fn(dep.handler))
        reached.setdefault(key, set()).update(indices)
    for (layer, is_output), indices in reached.items():
        yield layer, is_output, indices


def _check_shared(network: Network, graph: Any, groups: list[Any]) -> None:
    """Refuse a weight of several layers, unless the same groups reach all of them alike, or pruning would untie it."""
    reached, first = defaultdict[nn.Module, set[Any]](set), dict[nn.Parameter, tuple[str, nn.Module]]()
    for number, group in enumerate(groups):
        for layer, is_output, indices in _touched(graph, group):
            reached[layer].add((number, is_output, frozenset(indices)))
    for name, module in network.named_modules():
        for field, parameter in module.named_parameters(recurse=False):
            other, layer = first.setdefault(parameter, (f"{name}.{field}", module))
            if reached[module] != reached[layer]:
                names = in_the_net(network, other), in_the_net(network, f"{name}.{field}")
                raise UsageError(
                    f"{network.spec.arch} cannot be pruned: {' and '.join(names)} are one weight, of which pruning "
                    "would take other channels in one place than in the other"
                )


def _check_share(graph: Any, layer: Any, is_output: bool, indices: set[int], units: int) -> None:
    """Refuse a layer whose channels torch-pruning mistakes for others', as behind a shortcut that pads or doubles them.

    What it leaves then may well run, of another size or with the wrong channels added up.
    """
    width = graph.get_out_channels(layer) if is_output else graph.get_in_channels(layer)
    if len(indices) % units or max(indices) >= width:
        raise ValueError(f"{len(indices)} channels of a layer of {width} go with {units} of another")


def _ways(group: Any) -> int:
    """How many channels go together because convolutions or norms of the group are grouped."""
    grouped = [1]
    for dep, _ in group:
        layer = dep.target.module
        if isinstance(layer, nn.Conv2d) and not _depthwise(layer):
            grouped.append(layer.groups)
        elif isinstance(layer, nn.GroupNorm):
            grouped.append(layer.num_groups)
    return max(grouped)


def _writers(graph: Any, group: Any, macs: dict[nn.Module, int]) -> int:
    """How many layers write the group's channels: more than one where they are added up.

    A depthwise convolution hands on what it is given, and a gate, as squeeze-and-excitation's, writes at one position.
    """
    positions = {
        layer: macs[layer] // layer.weight.numel()
        for layer, is_output, _ in _touched(graph, group)
        if is_output and isinstance(layer, Convolution | nn.Linear) and not _depthwise(layer)
    }
    return sum(count > 1 or max(positions.values()) == 1 for count in positions.values())


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, Convolution) and layer.groups == layer.out_channels and layer.groups > 1


def _lost(group: Any, units: int) -> Iterator[tuple[Any, nn.Parameter, tuple[int, ...]]]:
    """Every layer that a group reaches, its parameters, and what each of their dimensions loses with a unit.

    torch-pruning, which knows how each kind of layer is laid out, prunes copies of them.
    """
    layers: dict[Any, Any] = {}
    for item in group:
        layer, handler = item.dep.target.module, item.dep.handler
        if _parameters(layer):
            first = [index for index, root in zip(item.idxs, item.root_idxs, strict=True) if root % units == 0]
            handler.__self__.pruning_dim = item.dep.target.pruning_dim
            with layer_named(item.dep.target, group._DG.model):
                layers[layer] = handler(layers[layer] if layer in layers else copy.deepcopy(layer), first)
    for layer, pruned in layers.items():
        for before, after in zip(_parameters(layer), _parameters(pruned), strict=True):
            yield layer, before, tuple(np.subtract(before.shape, after.shape))


def _parameters(layer: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [layer] if isinstance(layer, nn.Parameter) else list(layer.parameters())
