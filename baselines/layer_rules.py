"""Rules for layers: how each function of `torch.nn.functional` passes on the channels that are tracked.

A rule takes the tracker, the function's result, and the function's own arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from baselines.channel_sets import FIXED
from compress.networks.layer_resizing import GROUPS

if TYPE_CHECKING:
    from baselines.channel_tracking import Tracker


def _convolution(
    tracker: Tracker, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **options: Any
) -> None:
    groups = int(options.get("groups", _[3] if len(_) > 3 else 1))
    across = 1 if input.dim() == weight.dim() else 0
    if groups > 1 and weight.shape[1] == 1:  # depthwise
        channels = tracker.together(input, across)
        written = tracker.writes(value, weight, 0, bias, across)
        tracker.channels.join(written, channels.repeat_interleave(len(written) // groups))
        if id(weight) in tracker.names:
            tracker.axes[f"{tracker.names[id(weight)].rpartition('.')[0]}.{GROUPS}", 0] = channels
        return
    tracker.reads(weight, 1, input, across, groups)
    written = tracker.writes(value, weight, 0, bias, across)
    if groups > 1:
        tracker.channels.join_rows(written.view(groups, -1).t())


def _transposed_convolution(
    tracker: Tracker, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **options: Any
) -> None:
    groups = int(options.get("groups", _[3] if len(_) > 3 else 1))
    if groups > 1:  # the weight has the inputs of all groups, but the outputs of a single group
        tracker.channels.fix(torch.cat([tracker.of(input).flatten(), tracker.axis(weight, 0), tracker.axis(weight, 1)]))
        tracker.mark(value, torch.full(value.shape, FIXED, dtype=torch.float64))
        return
    across = 1 if input.dim() == weight.dim() else 0
    tracker.reads(weight, 0, input, across)
    tracker.writes(value, weight, 1, bias, across)
    tracker.count(weight, input.numel() // input.shape[across] - value.numel() // value.shape[across])


def _linear(tracker: Tracker, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    tracker.reads(weight, 1, input, -1)
    tracker.writes(value, weight, 0, bias, -1)


def _batch_norm(tracker: Tracker, value: Tensor, input: Tensor, *vectors: Any, **options: Any) -> None:
    names = ("running_mean", "running_var", "weight", "bias")  # as instance norm has them
    _norm(tracker, value, input, 1, _vectors(names, vectors, options))


def _layer_norm(
    tracker: Tracker, value: Tensor, input: Tensor, normalized_shape: Any, *vectors: Any, **options: Any
) -> None:
    if len(normalized_shape) == 1:
        _norm(tracker, value, input, -1, _vectors(("weight", "bias"), vectors, options))
    else:
        tracker.channels.fix(tracker.of(input))
        tracker.mark(value, tracker.of(input))


def _group_norm(tracker: Tracker, value: Tensor, input: Tensor, num_groups: int, *vectors: Any, **options: Any) -> None:
    channels = _norm(tracker, value, input, 1, _vectors(("weight", "bias"), vectors, options))
    if channels is not None and 1 < num_groups < len(channels):  # every group keeps as many channels
        tracker.channels.join_rows(channels.view(num_groups, -1).t())


def _vectors(names: tuple[str, ...], given: tuple[Any, ...], options: dict[str, Any]) -> tuple[Tensor | None, ...]:
    """A norm's arguments that have an entry per channel, given by position or by name."""
    named = dict(zip(names, given, strict=False)) | options
    return tuple(named.get(name) for name in names)


def _norm(
    tracker: Tracker, value: Tensor, input: Tensor, dim: int, vectors: tuple[Tensor | None, ...]
) -> Tensor | None:
    """Pass the input's channels on to a norm's result, join its vectors to them, and return the channels."""
    held = tracker.of(input)
    if dim == -1 and input.dim() == 4 and tracker.along(input, dim) is None:
        # Heads share the vectors' entries, so the channels that are normalised together go together.
        tracker.channels.join_rows(held.flatten(0, -2))
        for vector in vectors:
            if vector is not None and id(vector) in tracker.names:
                tracker.channels.fix(tracker.axis(vector, 0))
        tracker.mark(value, held)
        return None
    channels = tracker.together(input, dim)
    for vector in vectors:
        tracker.scales(vector, channels)
    tracker.spread(value, channels, dim)
    return channels


def _attention(tracker: Tracker, value: Tensor, query: Tensor, key: Tensor, values: Tensor, *_: Any, **__: Any) -> None:
    with tracker.quiet():
        weights = torch.empty(*query.shape[:-1], key.shape[-2])
        tracker.mark(weights, tracker.product(tracker.of(query), tracker.of(key).transpose(-2, -1)))
    tracker.mark(value, tracker.product(tracker.of(weights), tracker.of(values)))


def _multihead_attention(tracker: Tracker, value: tuple[Tensor, Any], *args: Any, **options: Any) -> None:
    """A head's queries, keys, values and inputs of the output projection go together."""
    given = ATTENTION.bind(*args, **options).arguments
    inputs, num_heads, across = [given[name] for name in ("query", "key", "value")], given["num_heads"], -1
    query, in_proj_weight, out_proj_weight = inputs[0], given["in_proj_weight"], given["out_proj_weight"]
    biased = given["bias_k"] is not None or given["bias_v"] is not None
    if in_proj_weight is None or biased or any(other is not query for other in inputs):
        for held in inputs:
            tracker.channels.fix(tracker.of(held))
        tracker.mark(value[0], torch.full(value[0].shape, FIXED, dtype=torch.float64))
        return
    tracker.reads(in_proj_weight, 1, query, across)
    heads = tracker.axis(in_proj_weight, 0).view(3, num_heads, -1).transpose(0, 1).flatten(1)
    tracker.writers.append((tracker.names[id(in_proj_weight)], 0))
    tracker.count(in_proj_weight, query.numel() // query.shape[across])
    first = tracker.channels.join_rows(heads)
    tracker.scales(given["in_proj_bias"], tracker.axis(in_proj_weight, 0))
    tracker.channels.join(
        tracker.axis(out_proj_weight, 1).view(num_heads, -1), first[:, None].expand(num_heads, heads.shape[1] // 3)
    )
    tracker.writes(value[0], out_proj_weight, 0, given["out_proj_bias"], across)


def _prelu(tracker: Tracker, value: Tensor, input: Tensor, weight: Tensor) -> None:
    if weight.numel() > 1:
        _norm(tracker, value, input, 1, (weight,))
    else:
        tracker.mark(value, tracker.of(input))


ATTENTION = inspect.signature(functional.multi_head_attention_forward)
RULES: dict[Any, Callable[..., None]] = {
    functional.conv1d: _convolution,
    functional.conv2d: _convolution,
    functional.conv3d: _convolution,
    functional.conv_transpose1d: _transposed_convolution,
    functional.conv_transpose2d: _transposed_convolution,
    functional.conv_transpose3d: _transposed_convolution,
    functional.linear: _linear,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
    functional.scaled_dot_product_attention: _attention,
    functional.multi_head_attention_forward: _multihead_attention,
    functional.prelu: _prelu,
}
