"""Coupling: groups of channels that are removed together, and a network's size without some of them."""

from __future__ import annotations

import contextlib
import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
from torch import nn

from baselines.channel_tracking import Axis, Tracked, Unit, track
from baselines.removal_order import Removed, Size
from baselines.weight_slicing import module_named, narrowed, why_not
from compress.console import console
from compress.errors import UsageError, first_line, nearest
from compress.networks import Network, Spec, in_the_net
from compress.networks.heads import OWN


def torch_pruning_version() -> str:
    """The version of torch-pruning, by its distribution, with which `torch_pruning.__version__` disagrees.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return metadata.version("torch-pruning")
    except metadata.PackageNotFoundError as error:
        raise UsageError("pruning and its controls need torch-pruning, which is not installed here") from error


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that residual additions, depthwise and grouped convolutions, norms or attention couple in the same way.

    Attributes:
        units: number of units, each of which can be removed by itself.
        ways: channels of a unit in the layer that writes them, as one for every group of a grouped convolution.
        joined: whether several convolutions write these channels, as into a residual stream.
        entries: indices along every axis that takes part, `(units, entries per unit)`, ascending.
        writers: the axes that layers write, in the order of execution.
    """

    units: int
    ways: int
    joined: bool
    entries: Mapping[Axis, np.ndarray[Any, Any]] = field(default_factory=dict, repr=False, compare=False)
    writers: tuple[Axis, ...] = field(default=(), repr=False, compare=False)


class Coupling:
    """The groups of a network, and its size without some of their units, counted without building it.

    The size equals `Size.of`: MACs and parameters are proportional to the product of a weight's widths.

    Attributes:
        left: reasons why groups stay that the network's code does not let be pruned, by the layer that writes them.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        with prunable(network.spec):
            self.groups, self.left, self._positions = _found(network)

    @cached_property
    def before(self) -> Size:
        """The network's size before pruning."""
        return Size.of(self.network)

    @cached_property
    def _count(self) -> Callable[[Removed], np.ndarray[Any, Any]]:
        return _counter(self.network, self.groups, self._positions)

    def size(self, removed: Removed) -> Size:
        """The network's size without the removed units."""
        less = self._count((0,) * len(self.groups)) - self._count(removed)
        return Size(self.before.macs - int(less[0]), self.before.params - int(less[1]))

    def within(self, scope: str, keep: Sequence[str] = ()) -> Scoped:
        """The groups in scope: all, or the inner ones, which are not joined; without those that `keep` modules write.

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
        """The axes that layers in modules of `keep` write."""
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


def _counter(
    network: Network, groups: Sequence[Group], positions: Mapping[str, int]
) -> Callable[[Removed], np.ndarray[Any, Any]]:
    """A function that counts MACs of layers, and parameters, without the removed units.

    Both follow from all weights up to the last exit: a weight has as many entries as the product of its widths.
    """
    last = f"heads.{network.spec.exits[-1].block}."
    weights = {
        name: tensor
        for name, tensor in network.named_parameters()
        if not name.startswith("heads.") or name.startswith(last)
    }
    known = sorted({axis for group in groups for axis in group.entries if axis[0] in weights})
    rows = {axis: row for row, axis in enumerate(known, start=1)}
    widths = np.array([1, *(weights[name].shape[dim] for name, dim in known)])  # the first stands for no axis
    of_group = np.zeros((len(widths), len(groups)), int)  # entries that a unit has along every axis
    for number, group in enumerate(groups):
        for axis, entries in group.entries.items():
            if axis in rows:
                of_group[rows[axis], number] = entries.shape[1]
    axes = np.array([[rows.get((name, dim), 0) for dim in range(4)] for name in weights])
    numels = np.array([tensor.numel() for tensor in weights.values()])
    rest = numels // widths[axes].prod(axis=1)  # product of a weight's dimensions that take no part
    used = np.array([[positions.get(name, 0), 1] for name in weights])
    return lambda removed: used.T @ (rest * (widths - of_group @ np.array(removed, int))[axes].prod(axis=1))


@dataclass(frozen=True, kw_only=True)
class Scoped:
    """The groups of a coupling that may be pruned, by their numbers there."""

    coupling: Coupling
    numbers: tuple[int, ...]

    @property
    def groups(self) -> list[Group]:
        """The groups in scope."""
        return [self.coupling.groups[number] for number in self.numbers]

    @property
    def units(self) -> tuple[int, ...]:
        """The number of units of every group in scope."""
        return tuple(group.units for group in self.groups)

    def size(self, removed: Removed) -> Size:
        """The network's size without the removed units of the groups in scope."""
        whole = [0] * len(self.coupling.groups)
        for number, count in zip(self.numbers, removed, strict=True):
            whole[number] = count
        return self.coupling.size(tuple(whole))


@contextlib.contextmanager
def prunable(spec: Spec) -> Iterator[None]:
    """Turn errors with a foreign net into a UsageError that says it cannot be pruned."""
    try:
        yield
    except Exception as error:
        if not spec.foreign or isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{spec.arch} cannot be pruned: its channels cannot be followed ({first_line(error)})"
        ) from error


def gone(groups: Sequence[Group], units: Mapping[int, Sequence[int]]) -> dict[Axis, list[int]]:
    """The entries along every axis that these units have, given by their group's number."""
    entries: dict[Axis, list[int]] = defaultdict(list)
    for number, indices in units.items():
        for axis, places in groups[number].entries.items():
            entries[axis] += places[list(indices)].flatten().tolist()
    return entries


_known: dict[Any, tuple[tuple[Group, ...], dict[str, str], dict[str, int]]] = {}
KNOWN = 16  # networks whose groups are remembered, since a job asks for them a dozen times


def _found(network: Network) -> tuple[tuple[Group, ...], dict[str, str], dict[str, int]]:
    """The groups, the reasons why others stay, and the positions of layers; remembered for equal networks."""
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
    """Enter in `left` the groups that the network's code does not let be pruned, as where it names a width."""
    alone: tuple[Callable[[int], str | None], ...] = (
        # Most are found without building a network.
        lambda number: why_not(network, gone(groups, {number: _some(groups, number)})),
        lambda number: _refusal(network, groups, [number]),
    )
    for why_left in alone:
        numbers = [number for number in numbers if _writer(network, groups[number]) not in left]
        if not numbers or _refusal(network, groups, numbers) is None:
            return
        found = {_writer(network, groups[number]): why_left(number) for number in numbers}
        left |= {name: why for name, why in found.items() if why is not None}


def _refusal(network: Network, groups: list[Group], numbers: Sequence[int]) -> str | None:
    """Why units of all these groups cannot be removed; None where they can."""
    try:
        narrowed(network, gone(groups, {number: _some(groups, number) for number in numbers}))
    except Exception as error:
        return first_line(error)
    return None


def _some(groups: list[Group], number: int) -> range:
    """Some units of a group, another share than in its neighbours, since code may need equal shares."""
    return range(0, groups[number].units, 2 + number % 3)


def _writer(network: Network, group: Group) -> str:
    """The name in the net of the first layer that writes a group."""
    return in_the_net(network, group.writers[0][0]).rpartition(".")[0]


def _alike(network: Network, tracked: Tracked) -> list[Group]:
    """Collect the units that have entries in the same axes into groups."""
    order = {axis: place for place, axis in enumerate(tracked.writers)}
    found: dict[Any, list[Unit]] = defaultdict(list)
    for unit in tracked.units:
        if any(axis in order and not _auxiliary(network, axis) for axis in unit):
            found[tuple(sorted((axis, len(places)) for axis, places in unit.items()))].append(unit)
    groups = []
    for key, units in found.items():
        writers = sorted((axis for axis, _ in key if axis in order), key=order.__getitem__)
        writers.sort(key=lambda axis: _depthwise(network, axis))  # these pass on the channels that they read
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
    """Whether a layer belongs to a head that was added to the net, which keeps its channels."""
    own = [f"heads.{exit.block}." for exit in network.spec.exits if exit.head == OWN]
    return axis[0].startswith("heads.") and not any(axis[0].startswith(head) for head in own)


def _depthwise(network: Network, axis: Axis) -> bool:
    layer = network.get_submodule(axis[0].rpartition(".")[0])
    return isinstance(layer, nn.modules.conv._ConvNd) and 1 < layer.groups == layer.in_channels


def _heads(network: Network, writers: Sequence[Axis], units: int) -> dict[Axis, np.ndarray[Any, Any]]:
    """Numbers of heads in the attention that writes a group, where the units are its heads."""
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
