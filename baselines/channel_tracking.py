"""Channel tracking: which channels go together, found by following every element through a forward pass.

Every entry along an axis of a weight starts as a channel of its own. While the network runs, every value carries the
channel of each of its elements. Whatever moves data moves the channels alike; channels that are added, multiplied,
normalised together, or read by one slice of a weight are joined. So channels that are reordered, split, repeated or
concatenated are followed exactly, which a graph of gradients with rules for some operators cannot do.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from baselines.channel_sets import FIXED, NONE, ChannelSets
from baselines.layer_rules import RULES
from baselines.operator_rules import Operators
from compress.networks import Network
from compress.networks.blocks import SegmentSpec
from compress.networks.layer_resizing import WIDTHS

# An axis of a weight: its name in the state dict, and the dimension.
Axis = tuple[str, int]
# Entries of weights that go together, by axis.
Unit = dict[Axis, tuple[int, ...]]


class Tracker(TorchFunctionMode):
    """Follows a network's channels while it runs: through layers by `RULES`, through all else by operator."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.channels = ChannelSets()
        self.axes: dict[Axis, Tensor] = {}
        self.writers: list[Axis] = []  # axes that layers write, in the order of execution
        self.positions: dict[str, int] = defaultdict(int)  # positions of an image at which a weight is used
        self.names = {id(tensor): name for name, tensor in reversed(network.state_dict(keep_vars=True).items())}
        self._loose: dict[str, Tensor] = {}  # weights used outside layers, by element
        self.silent = False

    # The channels of values.

    def of(self, value: Tensor) -> Tensor:
        """The channel of every element of a value, in its shape."""
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
        """Attach the channels of its elements to a value."""
        value.channels = channels

    def axis(self, weight: Tensor, dim: int) -> Tensor:
        """The channels along an axis of a layer's weight."""
        key = self.names[id(weight)], dim
        if key not in self.axes:
            self.axes[key] = self.channels.new(weight.shape[dim])
        return self.axes[key]

    def along(self, value: Tensor, dim: int) -> Tensor | None:
        """The channels of a value along a dimension; None where they differ at other positions."""
        for channels in (self.of(value), None):
            if channels is None:
                channels = self.channels.resolve(self.of(value))
            rows = channels.movedim(dim, 0).reshape(channels.shape[dim], -1)
            first = rows.amax(dim=1)
            if ((rows == first[:, None]) | (rows == NONE)).all():
                return first
        return None

    def together(self, value: Tensor, dim: int) -> Tensor:
        """The channels of a value along a dimension, after joining those at the same index."""
        channels = self.along(value, dim)
        return (
            self.channels.join_rows(self.of(value).movedim(dim, 0).reshape(value.shape[dim], -1))
            if channels is None
            else channels
        )

    def follow(self, name: str, value: Tensor, dim: int) -> None:
        """Record the channels of a value along a dimension under a name of their own."""
        self.axes[name, 0] = self.together(value, dim)

    def merge(self, values: Iterable[Tensor], shape: torch.Size) -> Tensor:
        """Join several values' channels element by element, broadcast to a shape; return the joined channels."""
        merged = torch.zeros(shape, dtype=torch.float64)
        for channels in sorted(values, key=torch.numel, reverse=True):
            spread = channels.expand(shape)
            if channels.numel() < spread.numel():
                spread = self._fix_spread(spread, merged)
            self.channels.join(spread, merged)
            merged = torch.where(merged == NONE, spread, merged)
        return merged

    def _fix_spread(self, spread: Tensor, merged: Tensor) -> Tensor:
        """Mark channels that meet several others, as one gate of all does, as those that have to stay."""
        pairs = torch.stack([self.channels.resolve(channels).flatten() for channels in (spread, merged)])
        pairs = torch.unique(pairs[:, (pairs != NONE).all(dim=0)], dim=1)
        met, times = torch.unique(pairs[0], return_counts=True)
        several = torch.isin(self.channels.resolve(spread), met[times > 1])
        self.channels.fix(spread[several])
        return torch.where(several & (merged != NONE), NONE, spread)

    def units(self) -> list[Unit]:
        """The entries of weights that go together, without those that have to stay."""
        self._place_loose()
        entries: dict[int, dict[Axis, list[int]]] = defaultdict(lambda: defaultdict(list))
        for axis, channels in self.axes.items():
            for place, root in enumerate(self.channels.resolve(channels).long().tolist()):
                entries[root][axis].append(place)
        fixed = int(self.channels.resolve(torch.tensor([float(FIXED)])))
        return [
            {axis: tuple(places) for axis, places in found.items()} for root, found in entries.items() if root != fixed
        ]

    def _place_loose(self) -> None:
        """Find the axis along which a weight outside layers has channels; where there is none, they have to stay."""
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
        """Add the positions at which a weight is used, counted over two images."""
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
        """Suspend tracking."""
        before, self.silent = self.silent, True
        try:
            yield
        finally:
            self.silent = before

    def spread(self, value: Tensor, channels: Tensor, dim: int) -> None:
        """Attach channels to a value along a dimension."""
        shape = [1] * value.dim()
        shape[dim] = -1
        self.mark(value, channels.view(shape).expand(value.shape).clone())

    def reads(self, weight: Tensor, dim: int, value: Tensor, across: int, groups: int = 1) -> None:
        """Join a value's channels to the axis of a weight that reads them, group by group."""
        if id(weight) not in self.names:
            return self.channels.fix(self.of(value))
        entries = self.axis(weight, dim)
        for group in self.together(value, across).view(groups, -1):
            self.channels.join(group, entries)

    def writes(self, value: Tensor, weight: Tensor, dim: int, bias: Tensor | None, across: int) -> Tensor:
        """Attach the channels of a weight's axis, joined to the bias, to a layer's result; return them."""
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
        """Join a vector with one entry per channel to the channels."""
        if vector is not None and id(vector) in self.names:
            self.channels.join(self.axis(vector, 0), channels)
        elif vector is not None:
            self.channels.join(self.of(vector), channels)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """The channels of a batched product of values, given those of its factors `(..., I, K)` and `(..., K, J)`.

        Where the channels of batches differ, as those of heads do, all channels of a batch are joined; otherwise those
        that are multiplied with one another.
        """
        batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        rows, columns = left.shape[-2], right.shape[-1]
        left, right = (held.expand(*batch, *held.shape[-2:]).reshape(-1, *held.shape[-2:]) for held in (left, right))
        together = torch.cat([left.flatten(1), right.flatten(1)], dim=1)
        if (self.channels.resolve(together) != self.channels.resolve(together[:1])).any():
            head = self.channels.join_rows(together)
            return head[:, None, None].expand(-1, rows, columns).reshape(*batch, rows, columns)
        left, right = self.channels.resolve(left[0]), self.channels.resolve(right[0])
        if (left == left[:1]).all() and (right == right[:, :1]).all():
            self.channels.join(left[0], right[:, 0])
            held = torch.zeros(rows, columns, dtype=torch.float64)
        elif (left == left[:, :1]).all() and (right == right[:1]).all() and NONE in (left.max(), right.max()):
            held = torch.maximum(left[:, :1], right[:1]).clone()
        else:
            self.channels.fix(together[:1])
            held = torch.full((rows, columns), FIXED, dtype=torch.float64)
        return held.expand(*batch, rows, columns).clone()


class Tracked(NamedTuple):
    """A network's channels.

    Attributes:
        units: entries of weights that go together; the classes and the images' channels are left out.
        writers: axes that layers write, in the order of execution.
        positions: number of positions of an image at which every layer's weight is used.
    """

    units: list[Unit]
    writers: list[Axis]
    positions: dict[str, int]


def track(network: Network) -> Tracked:
    """Track the channels of a network on the CPU, in eval mode."""
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
    """What counts channels besides weights: features that segments return, and norms without weights."""
    for index, (block, part) in enumerate(zip(network.spec.blocks, network.blocks, strict=True)):
        if isinstance(block, SegmentSpec):
            yield f"blocks.{index}", part, 1 if len(block.shape) == 3 else -1
    for name, module in network.named_modules():
        for number in WIDTHS:
            if f"{name}.{number}" in network.numbers:
                yield f"{name}.{number}", module, -1 if number == "normalized_shape" else 1
