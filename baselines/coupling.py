"""Coupling: which channels can only go together, by torch-pruning, and what is left without some of them."""

from __future__ import annotations

import contextlib
import copy
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

    The size is that of `compress.cost` for the last exit. A convolution's share goes with the product of its widths, a
    norm's with its own.

    Attributes:
        groups, roots: the groups, and of each the name of a layer that writes its channels.
    """

    def __init__(self, network: Network) -> None:
        self.before = Size.of(network)
        copied = copy.deepcopy(network)
        with prunable(network.spec):
            graph, groups = dependencies(copied)
            by_name = macs_by_module(copied)
            macs = {module: by_name[name] for name, module in copied.named_modules()}
            names = {module: name for name, module in copied.named_modules()}
            self.roots = tuple(names[group[0].dep.target.module] for group in groups)
            self.groups = tuple(
                Group(units=units_of(group), ways=_ways(group), joined=_writers(graph, group, macs) > 1)
                for group in groups
            )
            self._count(graph, groups, macs, _last_path(copied))

    def size(self, removed: Removed) -> Size:
        """What is left without so many units of every group."""
        gone = np.array(removed)
        outputs, inputs = self._outputs - self._of_outputs @ gone, self._inputs - self._of_inputs @ gone
        macs, weights = round(self._macs @ (outputs * inputs)), round(self._weights @ (outputs * inputs))
        alone = int(self._alone @ gone)
        return Size(self.before.macs - self._all.macs + macs, self.before.params - self._all.params + weights - alone)

    def within(self, scope: str) -> Scoped:
        """All groups, or the inner ones: those that are not joined."""
        numbers = [number for number, group in enumerate(self.groups) if scope == "all" or not group.joined]
        return Scoped(coupling=self, numbers=tuple(numbers))

    def _count(self, graph: Any, groups: list[Any], macs: dict[nn.Module, int], counted: set[nn.Module]) -> None:
        """Lay down, layer by layer, how MACs and parameters follow from the groups' units."""
        layers: dict[Any, int] = {}  # those whose widths multiply, by their row
        for layer in (dep.target.module for group in groups for dep, _ in group):
            if isinstance(layer, nn.Conv2d | nn.Linear) and layer in counted:
                layers.setdefault(layer, len(layers))
        rows = (len(layers), len(groups))
        self._of_outputs, self._of_inputs = np.zeros(rows, int), np.zeros(rows, int)
        self._alone = np.zeros(len(groups), int)  # parameters that go with a unit alone: norms, biases
        for number, group in enumerate(groups):
            units = self.groups[number].units
            for layer, is_output, indices in _touched(graph, group):
                share = len(indices) // units
                if layer in counted:
                    _check_share(graph, layer, is_output, indices, units)
                if layer in layers and is_output:
                    self._of_outputs[layers[layer], number] += share
                    self._alone[number] += share if layer.bias is not None else 0
                elif layer in layers and not _depthwise(layer):
                    self._of_inputs[layers[layer], number] += share
                elif layer in counted or isinstance(layer, nn.Parameter):
                    self._alone[number] += _parameters_a_channel(graph, layer) * share
        self._outputs, self._inputs = np.array([_widths(layer) for layer in layers]).T
        pairs = self._outputs * self._inputs
        # In a grouped convolution an output sees one group's inputs: these are fractions, their products whole.
        self._macs = np.array([macs[layer] for layer in layers]) / pairs
        self._weights = np.array([layer.weight.numel() for layer in layers]) / pairs
        self._all = Size(sum(macs[layer] for layer in layers), sum(layer.weight.numel() for layer in layers))


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

    graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), (blank(network),))
    return graph, list(graph.get_all_groups(ignored_layers=[*classifiers(network), *_misread(network)]))


def classifiers(network: Network) -> list[nn.Module]:
    """The layers of all heads, and so the classes, which no pruning may touch.

    As modules: given as a type they would be ignored in silence, and the classes pruned away.
    """
    kept = _layers(network.heads)
    if network.spec.exits[-1].head == OWN and not _layers(list(network.heads.values())[-1]):
        kept.append(_layers(network.blocks[-1])[-1])  # a classifier before pooling, as SqueezeNet's
    return kept


def _misread(network: Network) -> list[nn.Module]:
    """Convolutions of one output but several inputs a group, which torch-pruning takes for depthwise ones.

    One pruning may leave such a layer; the next leaves it, and what is written for it, as they are.
    """
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.out_channels < layer.in_channels
    ]


def blank(network: Network) -> Tensor:
    """Two blank images, as batch norm in train mode needs."""
    parameter = next(network.parameters())
    return torch.zeros(2, *network.spec.input_shape, device=parameter.device, dtype=parameter.dtype)


def units_of(group: Any) -> int:
    """How many channels of one of torch-pruning's groups can be removed one by one: see `Group`."""
    return len(group[0].idxs) // _ways(group)


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


def _check_share(graph: Any, layer: Any, is_output: bool, indices: set[int], units: int) -> None:
    """Refuse a layer whose channels torch-pruning mistakes for others', as behind a shortcut that pads or doubles them.

    What it leaves then may well run, of another size or with the wrong channels added up.
    """
    width = graph.get_out_channels(layer) if is_output else graph.get_in_channels(layer)
    if width is not None and (len(indices) % units or max(indices) >= width):  # None: one PReLU slope serves all
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
        if is_output and isinstance(layer, nn.Conv2d | nn.Linear) and not _depthwise(layer)
    }
    return sum(count > 1 or max(positions.values()) == 1 for count in positions.values())


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.out_channels and layer.groups > 1


def _widths(layer: Any) -> tuple[int, int]:
    """A layer's outputs and inputs; a depthwise convolution's weights go with its outputs alone."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, 1 if _depthwise(layer) else layer.in_channels


def _parameters_a_channel(graph: Any, layer: Any) -> int:
    """Of a norm or another layer with parameters of its own, how many a channel."""
    if isinstance(layer, nn.Parameter):
        return 1
    own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
    channels = graph.get_out_channels(layer) if own else None
    return own // channels if channels else 0
