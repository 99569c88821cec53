"""Coupling: which channels can only go together, and what is left of a network without some of them."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
from torch import nn

from baselines.narrowing import blank, module_named, narrowed, why_not
from baselines.steps import Removed, Size
from baselines.tracking import Axis, Tracked, track
from compress.console import console
from compress.errors import UsageError, first_line, nearest
from compress.networks import Network, Spec, in_the_net
from compress.networks.heads import OWN

# torch_pruning.__version__ disagrees with the distribution's.
TORCH_PRUNING = metadata.version("torch-pruning")

__all__ = ["TORCH_PRUNING", "Coupling", "Group", "Scoped", "blank", "classifiers", "prunable"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that residual additions, depthwise and grouped convolutions, norms, attention couple: all alike.

    Attributes:
        units: how many can be removed one by one.
        ways: channels a unit of the layer that writes them: one in every group of a grouped convolution, say.
        joined: whether several convolutions write these channels, as into a residual stream.
        entries: along every axis that has a part in it, `(units, entries a unit)`, ascending.
        writers: those of the axes that layers write, in the order in which they run.
    """

    units: int
    ways: int
    joined: bool
    entries: Mapping[Axis, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False, compare=False)
    writers: tuple[Axis, ...] = field(default=(), repr=False, compare=False)


class Coupling:
    """The groups of a network, and its size without some of their units, counted without building it.

    The size is that of `compress.cost` for the last exit: MACs and parameters go with the product of a weight's widths.

    Attributes:
        left: by the layer that writes them, why groups are left alone that its code does not let go.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        with prunable(network.spec):
            self.groups, self.left, self._positions = _found(network)

    @cached_property
    def before(self) -> Size:
        """What the network costs now."""
        return Size.of(self.network)

    @cached_property
    def _weights(self) -> Weights:
        return Weights.of(self.network, self.groups, self._positions)

    def size(self, removed: Removed) -> Size:
        """What is left without so many units of every group."""
        without, whole = self._weights.size(removed), self._weights.size((0,) * len(self.groups))
        return Size(self.before.macs - whole.macs + without.macs, self.before.params - whole.params + without.params)

    def within(self, scope: str, keep: Sequence[str] = ()) -> Scoped:
        """All groups, or the inner ones: those that are not joined; without what layers in modules of `keep` write.

        Raises:
            UsageError: the network has no module of that name.
        """
        kept = self._kept(keep)
        numbers = [
            number
            for number, group in enumerate(self.groups)
            if (scope == "all" or not group.joined) and not kept.intersection(group.writers)
        ]
        return Scoped(coupling=self, numbers=tuple(numbers))

    def _kept(self, keep: Sequence[str]) -> set[Axis]:
        """The axes that layers in these modules write."""
        modules = {in_the_net(self.network, name) for name, _ in self.network.named_modules()} - {""}
        for module in keep:
            if module not in modules:
                raise UsageError(f"--keep {module}: {_nearest(module, modules, self.network.spec.arch)}")
        return {
            (name, dim)
            for group in self.groups
            for name, dim in group.writers
            if any(f"{in_the_net(self.network, name)}.".startswith(f"{module}.") for module in keep)
        }


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How the sizes of the last exit's weights follow from the groups' units.

    Attributes:
        widths: along every axis that has a part in a group; the first stands for no axis and is 1.
        of_group: how many entries along every axis go with a unit of every group.
        axes: of every weight, the rows of those of its axes, filled up with 0.
        rest: of every weight, the product of its other dimensions.
        positions: of every weight, at how many positions of an image it is used.
    """

    widths: np.ndarray[Any, Any]
    of_group: np.ndarray[Any, Any]
    axes: np.ndarray[Any, Any]
    rest: np.ndarray[Any, Any]
    positions: np.ndarray[Any, Any]

    @classmethod
    def of(cls, network: Network, groups: Sequence[Group], positions: Mapping[str, int]) -> Weights:
        """Of a network, but for its auxiliary heads."""
        last = f"heads.{network.spec.exits[-1].block}."
        weights = {
            name: tensor
            for name, tensor in network.named_parameters()
            if not name.startswith("heads.") or name.startswith(last)
        }
        known = sorted({axis for group in groups for axis in group.entries if axis[0] in weights})
        rows = {axis: row for row, axis in enumerate(known, start=1)}
        widths = np.array([1, *(weights[name].shape[dim] for name, dim in known)])
        of_group = np.zeros((len(widths), len(groups)), int)
        for number, group in enumerate(groups):
            for axis, entries in group.entries.items():
                if axis in rows:
                    of_group[rows[axis], number] = entries.shape[1]
        axes = np.array([[rows.get((name, dim), 0) for dim in range(4)] for name in weights])
        numels = np.array([tensor.numel() for tensor in weights.values()])
        return cls(
            widths=widths,
            of_group=of_group,
            axes=axes,
            rest=numels // widths[axes].prod(axis=1),
            positions=np.array([positions.get(name, 0) for name in weights]),
        )

    def size(self, removed: Removed) -> Size:
        """MACs of layers, and parameters, without so many units of every group."""
        numels = self.rest * (self.widths - self.of_group @ np.array(removed, dtype=int))[self.axes].prod(axis=1)
        return Size(int(self.positions @ numels), int(numels.sum()))


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
    """Say in one line that somebody else's net cannot be pruned; in ours an error is an error."""
    try:
        yield
    except Exception as error:
        if not spec.foreign or isinstance(error, UsageError):
            raise
        reason = first_line(error)
        raise UsageError(f"{spec.arch} cannot be pruned: its channels cannot be followed ({reason})") from error


def classifiers(network: Network) -> list[nn.Module]:
    """The layers of all heads, and so the classes, which torch-pruning's regularisers shall not touch.

    As modules: given as a type they would be ignored in silence.
    """
    kept = _layers(network.heads)
    if network.spec.exits[-1].head == OWN and not _layers(list(network.heads.values())[-1]):
        kept.append(_layers(network.blocks[-1])[-1])  # a classifier before pooling, as SqueezeNet's
    return kept


def _layers(part: nn.Module) -> list[nn.Module]:
    return [layer for layer in part.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def gone(groups: Sequence[Group], units: Mapping[int, Sequence[int]]) -> dict[Axis, list[int]]:
    """The entries along every axis that go with these units of the groups with these numbers."""
    entries: dict[Axis, list[int]] = defaultdict(list)
    for number, indices in units.items():
        for axis, places in groups[number].entries.items():
            entries[axis] += places[list(indices)].flatten().tolist()
    return entries


_known: dict[Any, tuple[tuple[Group, ...], dict[str, str], dict[str, int]]] = {}
KNOWN = 16  # at most, as a job asks for the same a dozen times


def _found(network: Network) -> tuple[tuple[Group, ...], dict[str, str], dict[str, int]]:
    """The groups, those left alone and why, and the positions of layers, found once for networks that are alike."""
    alike = network.spec, *(f"{part}{getattr(part, 'code', '')}" for part in (*network.blocks, network.heads))
    if alike not in _known:
        if len(_known) == KNOWN:
            _known.clear()
        on_cpu = copy.deepcopy(network).cpu().float().eval()
        with module_named(on_cpu):
            tracked = track(on_cpu)
        groups = _alike(on_cpu, tracked)
        left: dict[str, str] = {}
        if network.spec.foreign:
            _check(on_cpu, groups, [number for number, group in enumerate(groups) if group.units > 1], left)
            if left:
                name, why = next(iter(left.items()))
                console.print(f"its code names the widths of {', '.join(left)}, which stay ({name}: {why})")
        there = tuple(group for group in groups if _writer(on_cpu, group) not in left)
        _known[alike] = there, left, tracked.positions
    return _known[alike]


def _check(network: Network, groups: list[Group], numbers: list[int], left: dict[str, str]) -> None:
    """Find the groups whose channels the network's code does not let go, as where it names a width."""
    if not numbers or _refusal(network, groups, numbers) is None:
        return
    for number in numbers:  # most are told without building anything anew
        if (why := why_not(network, gone(groups, {number: _some(groups, number)}))) is not None:
            left[_writer(network, groups[number])] = why
    _halve(network, groups, [number for number in numbers if _writer(network, groups[number]) not in left], left)


def _halve(network: Network, groups: list[Group], numbers: list[int], left: dict[str, str]) -> None:
    """Find the groups that cannot go, by halves."""
    if not numbers or (why := _refusal(network, groups, numbers)) is None:
        return
    if len(numbers) == 1:
        left[_writer(network, groups[numbers[0]])] = why
        return
    middle = len(numbers) // 2
    _halve(network, groups, numbers[:middle], left)
    _halve(network, groups, numbers[middle:], left)


def _refusal(network: Network, groups: list[Group], numbers: Sequence[int]) -> str | None:
    """Why channels of these groups cannot go together."""
    try:
        narrowed(network, gone(groups, {number: _some(groups, number) for number in numbers}))
    except Exception as error:
        return first_line(error)
    return None


def _some(groups: list[Group], number: int) -> range:
    """Some units of a group, another share than of its neighbours: code that halves channels, say, needs equal ones."""
    return range(0, groups[number].units, 2 + number % 3)


def _writer(network: Network, group: Group) -> str:
    """The first layer that writes a group, by its name in the net."""
    return in_the_net(network, group.writers[0][0]).rpartition(".")[0]


def _alike(network: Network, tracked: Tracked) -> list[Group]:
    """Units that have parts in the same axes, together: a group."""
    order = {axis: place for place, axis in enumerate(tracked.writers)}
    found: dict[Any, list[Mapping[Axis, tuple[int, ...]]]] = defaultdict(list)
    for unit in tracked.units:
        if any(axis in order and not _auxiliary(network, axis) for axis in unit.entries):
            found[tuple(sorted((axis, len(places)) for axis, places in unit.entries.items()))].append(unit.entries)
    groups = []
    for key, units in found.items():
        writers = sorted((axis for axis, _ in key if axis in order), key=order.__getitem__)
        writers.sort(key=lambda axis: _depthwise(network, axis))  # they hand on what they are given
        places = [unit[writers[0]] for unit in units]
        units = [units[number] for number in sorted(range(len(units)), key=places.__getitem__)]
        entries = {axis: np.array([unit[axis] for unit in units]) for axis in dict(key)}
        entries |= _heads(network, writers, len(units))
        positions = [tracked.positions[name] for name, dim in writers if not _depthwise(network, (name, dim))]
        # A gate, as squeeze-and-excitation's, writes at one position.
        joined = sum(count > 1 or max(positions) == 1 for count in positions) > 1
        ways = entries[writers[0]].shape[1]
        groups.append(Group(units=len(units), ways=ways, joined=joined, entries=entries, writers=tuple(writers)))
    return sorted(groups, key=lambda group: order[group.writers[0]])


def _auxiliary(network: Network, axis: Axis) -> bool:
    """Whether a layer belongs to a head of ours, which keeps its channels."""
    own = [f"heads.{exit.block}." for exit in network.spec.exits if exit.head == OWN]
    return axis[0].startswith("heads.") and not any(axis[0].startswith(head) for head in own)


def _depthwise(network: Network, axis: Axis) -> bool:
    layer = network.get_submodule(axis[0].rpartition(".")[0])
    return isinstance(layer, nn.modules.conv._ConvNd) and 1 < layer.groups == layer.in_channels


def _heads(network: Network, writers: Sequence[Axis], units: int) -> dict[Axis, np.ndarray[Any, Any]]:
    """What counts heads in the module that writes a group, where the units are its heads."""
    entries = {}
    for name, _ in writers:
        module, _, weight = name.rpartition(".")
        owner = module if weight == "in_proj_weight" else module.rpartition(".")[0]
        if network.numbers.get(f"{owner}.num_heads") == units:
            for number in (f"{owner}.num_heads", f"{owner}.attn_dim"):
                if number in network.numbers:
                    entries[number, 0] = np.arange(network.numbers[number]).reshape(units, -1)
    return entries


def _nearest(module: str, modules: set[str], arch: str) -> str:
    found = nearest(module, sorted(modules)).partition(" (known")[0]
    return (
        found if found.startswith("did you mean") else f"{arch} has no such module, as {', '.join(sorted(modules)[:3])}"
    )
