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
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from baselines.operators import Operators
from compress.networks import Network
from compress.networks.blocks import SegmentSpec
from compress.networks.resizing import GROUPS, WIDTHS

# Numbers of channels: none, as of a constant, and the one that holds all that must not go.
NONE, FIXED = 0, 1
# An axis of a weight: the weight's name in the state dict, and the dimension.
Axis = tuple[str, int]


@dataclass(frozen=True)
class Unit:
    """What can only go together: of some axes, which entries."""

    entries: dict[Axis, tuple[int, ...]]


class Channels:
    """Numbered channels, some of which have become one."""

    def __init__(self) -> None:
        self.count = 2
        self._pairs: list[np.ndarray[Any, Any]] = []
        self._roots = np.arange(2)

    def new(self, *shape: int) -> Tensor:
        """Channels of their own, float64 so that whatever moves data takes them."""
        size = int(np.prod(shape))
        numbers = torch.arange(self.count, self.count + size, dtype=torch.float64).view(shape)
        self.count += size
        return numbers

    def join(self, one: Tensor, other: Tensor) -> None:
        """Make pairs of channels one; `NONE` is none."""
        pairs = torch.stack([one.flatten(), other.flatten()])
        pairs = pairs[:, (pairs != NONE).all(dim=0) & (pairs[0] != pairs[1])]
        if pairs.numel():
            self._pairs.append(np.unique(pairs.numpy().astype(np.int64), axis=1))

    def join_rows(self, rows: Tensor) -> Tensor:
        """Make all channels of each row `(rows, entries)` one; the one of each row, `NONE` where it has none."""
        first = rows.amax(dim=1)
        self.join(rows, first[:, None].expand(rows.shape))
        return first

    def fix(self, channels: Tensor) -> None:
        """Leave these in the network."""
        self.join(channels, torch.full_like(channels, FIXED))

    def resolve(self, channels: Tensor) -> Tensor:
        """The same channels, those that are one by one number."""
        if self._pairs or len(self._roots) < self.count:
            one, other = np.concatenate([*self._pairs, [np.arange(len(self._roots)), self._roots]], axis=1)
            graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(self.count, self.count))
            _, parts = connected_components(graph, directed=False)
            _, first = np.unique(parts, return_index=True)
            self._roots, self._pairs = first[parts], []
        return torch.from_numpy(self._roots)[channels.long()].double()


class Tracker(TorchFunctionMode):
    """Runs a network and follows its channels: layers by what they do to them, all else operator by operator."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.channels = Channels()
        self.axes: dict[Axis, Tensor] = {}
        self.writers: list[Axis] = []  # in the order in which their layers ran
        self.positions: dict[str, int] = defaultdict(int)  # of an image, at which each layer's weight is used
        self._names = {id(tensor): name for name, tensor in reversed(network.state_dict(keep_vars=True).items())}
        self._loose: dict[str, Tensor] = {}  # weights that code uses outside layers, by element
        self.silent = False

    # What values hold.

    def of(self, value: Tensor) -> Tensor:
        """The channel of every element of a value."""
        found: Tensor | None = getattr(value, "channels", None)
        if found is not None:
            return found
        name = self._names.get(id(value))
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
        key = self._names[id(weight)], dim
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
        self.positions[self._names[id(weight)]] += positions // 2

    # Layers.

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given, rule = kwargs or {}, self.RULES.get(function)
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

    def _spread(self, value: Tensor, channels: Tensor, dim: int) -> None:
        """Let a value hold these channels along a dimension."""
        shape = [1] * value.dim()
        shape[dim] = -1
        self.mark(value, channels.view(shape).expand(value.shape).clone())

    def _reads(self, weight: Tensor, dim: int, value: Tensor, across: int, groups: int = 1) -> None:
        """A layer's weight reads a value's channels by an axis: one entry of it in every group."""
        if id(weight) not in self._names:
            return self.channels.fix(self.of(value))
        entries = self.axis(weight, dim)
        for group in self.together(value, across).view(groups, -1):
            self.channels.join(group, entries)

    def _writes(self, value: Tensor, weight: Tensor, dim: int, bias: Tensor | None, across: int) -> Tensor:
        """A layer's value holds the channels along its weight's axis, and those of its bias; the channels."""
        if id(weight) in self._names:
            self.count(weight, value.numel() // value.shape[across])
            channels = self.axis(weight, dim)
            if (key := (self._names[id(weight)], dim)) not in self.writers:
                self.writers.append(key)
        else:  # computed from weights, as by weight norm
            channels = self.together(weight, dim)
        if bias is not None:
            self._scales(bias, channels)
        self._spread(value, channels, across)
        return channels

    def _scales(self, vector: Tensor | None, channels: Tensor) -> None:
        """A weight has one entry a channel."""
        if vector is not None and id(vector) in self._names:
            self.channels.join(self.axis(vector, 0), channels)
        elif vector is not None:
            self.channels.join(self.of(vector), channels)

    def _convolution(
        self, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **options: Any
    ) -> None:
        groups = int(options.get("groups", _[3] if len(_) > 3 else 1))
        across = 1 if input.dim() == weight.dim() else 0
        if groups > 1 and weight.shape[1] == 1:
            channels = self.together(input, across)
            written = self._writes(value, weight, 0, bias, across)
            self.channels.join(written, channels.repeat_interleave(len(written) // groups))
            if id(weight) in self._names:
                self.axes[f"{self._names[id(weight)].rpartition('.')[0]}.{GROUPS}", 0] = channels
            return
        self._reads(weight, 1, input, across, groups)
        written = self._writes(value, weight, 0, bias, across)
        if groups > 1:
            self.channels.join_rows(written.view(groups, -1).t())

    def _transposed_convolution(
        self, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **options: Any
    ) -> None:
        groups = int(options.get("groups", _[3] if len(_) > 3 else 1))
        if groups > 1:  # its weight has inputs of all groups, but outputs of one
            self.channels.fix(torch.cat([self.of(input).flatten(), self.axis(weight, 0), self.axis(weight, 1)]))
            self.mark(value, torch.full(value.shape, FIXED, dtype=torch.float64))
            return
        across = 1 if input.dim() == weight.dim() else 0
        self._reads(weight, 0, input, across)
        self._writes(value, weight, 1, bias, across)
        self.count(weight, input.numel() // input.shape[across] - value.numel() // value.shape[across])

    def _linear(self, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        self._reads(weight, 1, input, -1)
        self._writes(value, weight, 0, bias, -1)

    def _norm_of_channels(
        self,
        value: Tensor,
        input: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> None:
        self._norm(value, input, 1, (running_mean, running_var, weight, bias))

    def _layer_norm(
        self,
        value: Tensor,
        input: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> None:
        if len(normalized_shape) == 1:
            self._norm(value, input, -1, (weight, bias))
        else:
            self.channels.fix(self.of(input))
            self.mark(value, self.of(input))

    def _group_norm(
        self,
        value: Tensor,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> None:
        channels = self._norm(value, input, 1, (weight, bias))
        if channels is not None and 1 < num_groups < len(channels):  # the same number in every group
            self.channels.join_rows(channels.view(num_groups, -1).t())

    def _norm(self, value: Tensor, input: Tensor, dim: int, vectors: tuple[Tensor | None, ...]) -> Tensor | None:
        """A norm's value holds what its input does, and its vectors one entry a channel; the channels."""
        held = self.of(input)
        if dim == -1 and input.dim() == 4 and self.along(input, dim) is None:
            # Heads share the entries: those channels that are normalised together can only go together.
            self.channels.join_rows(held.flatten(0, -2))
            for vector in vectors:
                if vector is not None and id(vector) in self._names:
                    self.channels.fix(self.axis(vector, 0))
            self.mark(value, held)
            return None
        channels = self.together(input, dim)
        for vector in vectors:
            self._scales(vector, channels)
        self._spread(value, channels, dim)
        return channels

    def _attention(self, value: Tensor, query: Tensor, key: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
        with self.quiet():
            weights = torch.empty(*query.shape[:-1], key.shape[-2])
            self.mark(weights, self.product(self.of(query), self.of(key).transpose(-2, -1)))
        self.mark(value, self.product(self.of(weights), self.of(values)))

    def _multihead_attention(
        self,
        value: tuple[Tensor, Any],
        query: Tensor,
        key: Tensor,
        values: Tensor,
        embed_dim_to_check: int,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        dropout_p: float,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        *_: Any,
        **__: Any,
    ) -> None:
        """A head is its queries, keys, values and the inputs of the last projection."""
        across = -1
        if in_proj_weight is None or bias_k is not None or bias_v is not None or query is not key or key is not values:
            for one in (query, key, values):
                self.channels.fix(self.of(one))
            self.mark(value[0], torch.full(value[0].shape, FIXED, dtype=torch.float64))
            return
        self._reads(in_proj_weight, 1, query, across)
        heads = self.axis(in_proj_weight, 0).view(3, num_heads, -1).transpose(0, 1).flatten(1)
        self.writers.append((self._names[id(in_proj_weight)], 0))
        self.count(in_proj_weight, query.numel() // query.shape[across])
        first = self.channels.join_rows(heads)
        self._scales(in_proj_bias, self.axis(in_proj_weight, 0))
        self.channels.join(
            self.axis(out_proj_weight, 1).view(num_heads, -1), first[:, None].expand(num_heads, heads.shape[1] // 3)
        )
        self._writes(value[0], out_proj_weight, 0, out_proj_bias, across)

    def _prelu(self, value: Tensor, input: Tensor, weight: Tensor) -> None:
        if weight.numel() > 1:
            self._norm(value, input, 1, (weight,))
        else:
            self.mark(value, self.of(input))

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

    RULES: ClassVar[dict[Any, Callable[..., None]]] = {
        functional.conv1d: _convolution,
        functional.conv2d: _convolution,
        functional.conv3d: _convolution,
        functional.conv_transpose1d: _transposed_convolution,
        functional.conv_transpose2d: _transposed_convolution,
        functional.conv_transpose3d: _transposed_convolution,
        functional.linear: _linear,
        functional.batch_norm: _norm_of_channels,
        functional.instance_norm: _norm_of_channels,
        functional.layer_norm: _layer_norm,
        functional.group_norm: _group_norm,
        functional.scaled_dot_product_attention: _attention,
        functional.multi_head_attention_forward: _multihead_attention,
        functional.prelu: _prelu,
    }


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
