"""Tracking: which channels can only go together, found by following every element of every value through one forward.

Every entry along an axis of a weight starts as a channel of its own. While the network runs, each value carries, by
element, the channel it holds: what moves data moves the channels alike, whatever it is, and where two channels are
added, multiplied, normalised together or read by one slice of a weight, they become one. So reordered, split, repeated
and concatenated channels are followed exactly, which a graph of gradients with rules for some operators cannot do.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from baselines.layers import RULES
from baselines.numbered import FIXED, NONE, Channels
from baselines.operators import Operators
from compress.networks import Network
from compress.networks.blocks import SegmentSpec
from compress.networks.layer_resizing import WIDTHS

# An axis of a weight: the weight's name in the state dict, and the dimension.
Axis = tuple[str, int]


@dataclass(frozen=True)
class Unit:
    """What can only go together: of some axes, which entries."""

    entries: dict[Axis, tuple[int, ...]]


class Tracker(TorchFunctionMode):
    """Runs a network and follows its channels: layers by what they do to them, all else operator by operator."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.channels = Channels()
        self.axes: dict[Axis, Tensor] = {}
        self.writers: list[Axis] = []  # in the order in which their layers ran
        self.positions: dict[str, int] = defaultdict(int)  # of an image, at which each layer's weight is used
        self.names = {id(tensor): name for name, tensor in reversed(network.state_dict(keep_vars=True).items())}
        self._loose: dict[str, Tensor] = {}  # weights that code uses outside layers, by element
        self.silent = False

    # What values hold.

    def of(self, value: Tensor) -> Tensor:
        """The channel of every element of a value."""
        found: Tensor | None = getattr(value, "channels", None)
        if found is not None:
            return found
        name = self.names.get(id(value))
        if name is None or not value.is_floating_point():
            return torch.zeros(value.shape, dtype=torch.float64)
        if name not in self._loose:
            self._loose[name] = self.channels.new(*value.shape)
        return self._loose[name]

    def mark(self, value: Any, channels: Tensor) -> None:
        """Note what a value holds, on itself."""
        value.channels = channels

    def axis(self, weight: Tensor, dim: int) -> Tensor:
        """The channels along an axis of a layer's weight."""
        key = self.names[id(weight)], dim
        if key not in self.axes:
            self.axes[key] = self.channels.new(weight.shape[dim])
        return self.axes[key]

    def along(self, value: Tensor, dim: int) -> Tensor | None:
        """The channels of a value along a dimension, where they are the same at all other places; else None."""
        for channels in (self.of(value), None):
            if channels is None:
                channels = self.channels.resolve(self.of(value))
            rows = channels.movedim(dim, 0).reshape(channels.shape[dim], -1)
            first = rows.amax(dim=1)
            if ((rows == first[:, None]) | (rows == NONE)).all():
                return first
        return None

    def together(self, value: Tensor, dim: int) -> Tensor:
        """The channels of a value along a dimension; those that stand in one place of it can only go together."""
        channels = self.along(value, dim)
        return (
            self.channels.join_rows(self.of(value).movedim(dim, 0).reshape(value.shape[dim], -1))
            if channels is None
            else channels
        )

    def follow(self, name: str, value: Tensor, dim: int) -> None:
        """Note what a value holds along a dimension under a name of its own."""
        self.axes[name, 0] = self.together(value, dim)

    def merge(self, values: Iterable[Tensor], shape: torch.Size) -> Tensor:
        """What holds several values' channels, element by element, broadcast to a shape."""
        merged = torch.zeros(shape, dtype=torch.float64)
        for channels in sorted(values, key=torch.numel, reverse=True):
            spread = channels.expand(shape)
            if channels.numel() < spread.numel():
                spread = self._fix_spread(spread, merged)
            self.channels.join(spread, merged)
            merged = torch.where(merged == NONE, spread, merged)
        return merged

    def _fix_spread(self, spread: Tensor, merged: Tensor) -> Tensor:
        """Leave a channel that meets several in the network, as a gate for all of them; else all would be one."""
        pairs = torch.stack([self.channels.resolve(one).flatten() for one in (spread, merged)])
        pairs = torch.unique(pairs[:, (pairs != NONE).all(dim=0)], dim=1)
        met, times = torch.unique(pairs[0], return_counts=True)
        several = torch.isin(self.channels.resolve(spread), met[times > 1])
        self.channels.fix(spread[several])
        return torch.where(several & (merged != NONE), NONE, spread)

    def units(self) -> list[Unit]:
        """What can only go together, by the entries of weights."""
        self._place_loose()
        entries: dict[int, dict[Axis, list[int]]] = defaultdict(lambda: defaultdict(list))
        for axis, channels in self.axes.items():
            for place, root in enumerate(self.channels.resolve(channels).long().tolist()):
                entries[root][axis].append(place)
        fixed = int(self.channels.resolve(torch.tensor([float(FIXED)])))
        return [
            Unit({axis: tuple(places) for axis, places in found.items()})
            for root, found in entries.items()
            if root != fixed
        ]

    def _place_loose(self) -> None:
        """Find the axis of a weight used outside layers along which its channels lie; else they stay."""
        for name, channels in self._loose.items():
            held = self.channels.resolve(channels)
            for dim in range(held.dim()):
                rows = held.movedim(dim, 0).reshape(held.shape[dim], -1)
                used = any(axis[0] == name for axis in self.axes)
                if (rows == rows[:, :1]).all() and not used:
                    self.axes[name, dim] = rows[:, 0].clone()
                    break
            else:
                self.channels.fix(channels)
                for axis in [axis for axis in self.axes if axis[0] == name]:
                    self.channels.fix(self.axes[axis])

    def count(self, weight: Tensor, positions: int) -> None:
        """Note at how many positions of two images a weight is used."""
        self.positions[self.names[id(weight)]] += positions // 2

    # Layers.

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given, rule = kwargs or {}, RULES.get(function)
        if rule is None or self.silent:
            return function(*args, **given)
        with self.quiet():
            value = function(*args, **given)
        rule(self, value, *args, **given)
        return value

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Follow nothing for a while."""
        before, self.silent = self.silent, True
        try:
            yield
        finally:
            self.silent = before

    def spread(self, value: Tensor, channels: Tensor, dim: int) -> None:
        """Let a value hold these channels along a dimension."""
        shape = [1] * value.dim()
        shape[dim] = -1
        self.mark(value, channels.view(shape).expand(value.shape).clone())

    def reads(self, weight: Tensor, dim: int, value: Tensor, across: int, groups: int = 1) -> None:
        """A layer's weight reads a value's channels by an axis: one entry of it in every group."""
        if id(weight) not in self.names:
            return self.channels.fix(self.of(value))
        entries = self.axis(weight, dim)
        for group in self.together(value, across).view(groups, -1):
            self.channels.join(group, entries)

    def writes(self, value: Tensor, weight: Tensor, dim: int, bias: Tensor | None, across: int) -> Tensor:
        """A layer's value holds the channels along its weight's axis, and those of its bias; the channels."""
        if id(weight) in self.names:
            self.count(weight, value.numel() // value.shape[across])
            channels = self.axis(weight, dim)
            if (key := (self.names[id(weight)], dim)) not in self.writers:
                self.writers.append(key)
        else:  # computed from weights, as by weight norm
            channels = self.together(weight, dim)
        if bias is not None:
            self.scales(bias, channels)
        self.spread(value, channels, across)
        return channels

    def scales(self, vector: Tensor | None, channels: Tensor) -> None:
        """A weight has one entry a channel."""
        if vector is not None and id(vector) in self.names:
            self.channels.join(self.axis(vector, 0), channels)
        elif vector is not None:
            self.channels.join(self.of(vector), channels)

    def product(self, one: Tensor, other: Tensor) -> Tensor:
        """What a batched product `(..., I, K) x (..., K, J)` of values holds.

        Where the channels of its batches differ, as heads' do, all of one batch are one. Else those that are multiplied
        with one another are.
        """
        batch = torch.broadcast_shapes(one.shape[:-2], other.shape[:-2])
        rows, columns = one.shape[-2], other.shape[-1]
        one, other = (held.expand(*batch, *held.shape[-2:]).reshape(-1, *held.shape[-2:]) for held in (one, other))
        together = torch.cat([one.flatten(1), other.flatten(1)], dim=1)
        if (self.channels.resolve(together) != self.channels.resolve(together[:1])).any():
            head = self.channels.join_rows(together)
            return head[:, None, None].expand(-1, rows, columns).reshape(*batch, rows, columns)
        left, right = self.channels.resolve(one[0]), self.channels.resolve(other[0])
        if (left == left[:1]).all() and (right == right[:, :1]).all():
            self.channels.join(left[0], right[:, 0])
            held = torch.zeros(rows, columns, dtype=torch.float64)
        elif (left == left[:, :1]).all() and (right == right[:1]).all() and NONE in (left.max(), right.max()):
            held = torch.maximum(left[:, :1], right[:1]).clone()
        else:
            self.channels.fix(together[:1])
            held = torch.full((rows, columns), FIXED, dtype=torch.float64)
        return held.expand(*batch, rows, columns).clone()


@dataclass(frozen=True)
class Tracked:
    """What came of following a network's channels.

    Attributes:
        units: all that can go together by itself; left out is what reaches the logits, or reads the images.
        writers: the axes that layers write, in the order in which they run.
        positions: of one image, at which each layer's weight is used.
    """

    units: list[Unit]
    writers: list[Axis]
    positions: dict[str, int]


def track(network: Network) -> Tracked:
    """The channels of a network on the CPU, in eval mode."""
    tracker, images = Tracker(network), torch.zeros(2, *network.spec.input_shape)
    tracker.mark(images, torch.full(images.shape, FIXED, dtype=torch.float64))
    hooks = [
        part.register_forward_hook(lambda _, __, value, name=name, dim=dim: tracker.follow(name, value, dim))
        for name, part, dim in _followed(network)
    ]
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), tracker, Operators(tracker):
            outputs = network(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        for hook in hooks:
            hook.remove()
    for output in outputs:
        tracker.channels.fix(tracker.of(output))
    return Tracked(tracker.units(), tracker.writers, dict(tracker.positions))


def _followed(network: Network) -> Iterator[tuple[str, nn.Module, int]]:
    """Beside weights, what counts channels: the features that segments hand on, and norms without weights."""
    for index, (block, part) in enumerate(zip(network.spec.blocks, network.blocks, strict=True)):
        if isinstance(block, SegmentSpec):
            yield f"blocks.{index}", part, 1 if len(block.shape) == 3 else -1
    for name, module in network.named_modules():
        for number in WIDTHS:
            if f"{name}.{number}" in network.numbers:
                yield f"{name}.{number}", module, -1 if number == "normalized_shape" else 1
