"""Layers: what each kind does to the channels that `tracking` follows, one rule a function of torch's.

A rule is given the tracker, the value that came out, and the function's own arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from baselines.numbered import FIXED
from compress.networks.layer_resizing import GROUPS

if TYPE_CHECKING:
    from baselines.tracking import Tracker


def _convolution(
    tracker: Tracker, value: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **options: Any
) -> None:
    groups = int(options.get("groups", _[3] if len(_) > 3 else 1))
    across = 1 if input.dim() == weight.dim() else 0
    if groups > 1 and weight.shape[1] == 1:
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
    if groups > 1:  # its weight has inputs of all groups, but outputs of one
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


def _norm_of_channels(
    tracker: Tracker,
    value: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    _norm(tracker, value, input, 1, (running_mean, running_var, weight, bias))


def _layer_norm(
    tracker: Tracker,
    value: Tensor,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    if len(normalized_shape) == 1:
        _norm(tracker, value, input, -1, (weight, bias))
    else:
        tracker.channels.fix(tracker.of(input))
        tracker.mark(value, tracker.of(input))


def _group_norm(
    tracker: Tracker,
    value: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    channels = _norm(tracker, value, input, 1, (weight, bias))
    if channels is not None and 1 < num_groups < len(channels):  # the same number in every group
        tracker.channels.join_rows(channels.view(num_groups, -1).t())


def _norm(
    tracker: Tracker, value: Tensor, input: Tensor, dim: int, vectors: tuple[Tensor | None, ...]
) -> Tensor | None:
    """A norm's value holds what its input does, and its vectors one entry a channel; the channels."""
    held = tracker.of(input)
    if dim == -1 and input.dim() == 4 and tracker.along(input, dim) is None:
        # Heads share the entries: those channels that are normalised together can only go together.
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


def _multihead_attention(
    tracker: Tracker,
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
            tracker.channels.fix(tracker.of(one))
        tracker.mark(value[0], torch.full(value[0].shape, FIXED, dtype=torch.float64))
        return
    tracker.reads(in_proj_weight, 1, query, across)
    heads = tracker.axis(in_proj_weight, 0).view(3, num_heads, -1).transpose(0, 1).flatten(1)
    tracker.writers.append((tracker.names[id(in_proj_weight)], 0))
    tracker.count(in_proj_weight, query.numel() // query.shape[across])
    first = tracker.channels.join_rows(heads)
    tracker.scales(in_proj_bias, tracker.axis(in_proj_weight, 0))
    tracker.channels.join(
        tracker.axis(out_proj_weight, 1).view(num_heads, -1), first[:, None].expand(num_heads, heads.shape[1] // 3)
    )
    tracker.writes(value[0], out_proj_weight, 0, out_proj_bias, across)


def _prelu(tracker: Tracker, value: Tensor, input: Tensor, weight: Tensor) -> None:
    if weight.numel() > 1:
        _norm(tracker, value, input, 1, (weight,))
    else:
        tracker.mark(value, tracker.of(input))


RULES: dict[Any, Callable[..., None]] = {
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
