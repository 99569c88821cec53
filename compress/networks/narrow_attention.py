"""Attention whose heads together are narrower than the channels that they read, as pruning leaves them.

The modules of torch and torchvision take channels / heads for the width of a head. The modules here have the same
weights under the same names, and compute the same if nothing was pruned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -100.0  # added before the softmax, as torchvision does
Linear = tuple[Tensor, Tensor | None]  # weight and bias


def narrow(attention: nn.Module) -> None:
    """Let an attention module of torch or of a Swin transformer have any number of heads; leave others alone."""
    if type(attention) is nn.MultiheadAttention:
        attention.__class__ = NarrowAttention
    elif type(attention).__name__ == "ShiftedWindowAttention":
        attention.__class__ = _window_attention(type(attention))


class NarrowAttention(nn.MultiheadAttention):
    """Self-attention of a sequence, with the batch in the first or the second dimension."""

    def forward(self, query: Tensor, *_: Tensor, **__: bool) -> tuple[Tensor, None]:  # type: ignore[override]
        """Return the output sequence, and None in place of attention weights."""
        sequence = query if self.batch_first else query.transpose(0, 1)
        projected = functional.linear(sequence, self.in_proj_weight, self.in_proj_bias)
        parts = projected.unflatten(-1, (3, self.num_heads, -1)).movedim((-3, -2), (0, -3))
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], dropout_p=dropout)
        output = self.out_proj(mixed.transpose(-3, -2).flatten(-2))
        return output if self.batch_first else output.transpose(0, 1), None


def _window_attention(theirs: type[nn.Module]) -> type[nn.Module]:
    """A subclass of torchvision's attention in shifted windows, `(N, H, W, C)` -> `(N, H, W, C)` (Liu et al. 2021)."""

    class NarrowWindowAttention(theirs):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return window_attention(
                x,
                (self.qkv.weight, self.qkv.bias),
                (self.proj.weight, self.proj.bias),
                self.get_relative_position_bias(),
                self.num_heads,
                (self.window_size, self.shift_size),
                (self.attention_dropout, self.dropout),
                self.training,
            )

    return NarrowWindowAttention


def window_attention(
    x: Tensor,
    qkv: Linear,
    projection: Linear,
    position_bias: Tensor,
    heads: int,
    windows: tuple[list[int], list[int]],
    dropouts: tuple[float, float],
    training: bool,
) -> Tensor:
    """Attention of `(N, H, W, C)` within windows, which are shifted if there are several.

    A function of its own, since torch.fx must not trace through it: its shapes depend on the image's size.

    Args:
        qkv, projection: weight and bias of the linear layers before and after attention.
        windows: height and width of a window, and by how much windows are shifted.
        dropouts: probabilities for attention weights and for the output.
    """
    window, shift = windows
    batch, height, width, channels = x.shape
    rows, columns = (math.ceil(size / side) for size, side in zip((height, width), window, strict=True))
    x = functional.pad(x, (0, 0, 0, columns * window[1] - width, 0, rows * window[0] - height))
    down, right = (by if count > 1 else 0 for by, count in zip(shift, (rows, columns), strict=True))
    x = torch.roll(x, (-down, -right), (1, 2))
    x = (
        x.view(batch, rows, window[0], columns, window[1], channels)
        .transpose(2, 3)
        .reshape(-1, math.prod(window), channels)
    )
    query, key, value = functional.linear(x, *qkv).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + position_bias
    if down or right:
        mask = _mask(x, rows, columns, window, (down, right))
        weights = (weights.unflatten(0, (batch, -1)) + mask[:, None]).flatten(0, 1)
    weights = functional.dropout(weights.softmax(-1), dropouts[0], training)
    x = functional.linear((weights @ value).transpose(1, 2).flatten(2), *projection)
    x = functional.dropout(x, dropouts[1], training)
    x = x.view(batch, rows, columns, *window, len(projection[0])).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    x = torch.roll(x, (down, right), (1, 2))
    return x[:, :height, :width].contiguous()


torch.fx.wrap("window_attention")


def _mask(x: Tensor, rows: int, columns: int, window: list[int], shift: tuple[int, int]) -> Tensor:
    """The attention mask `(windows, tokens, tokens)` that separates tokens which were shifted past an edge."""
    parts = [
        torch.arange(count * side, device=x.device).sub(count * side - side).ge(0).long()
        + torch.arange(count * side, device=x.device).sub(count * side - by).ge(0).long()
        if by
        else torch.zeros(count * side, dtype=torch.long, device=x.device)
        for count, side, by in zip((rows, columns), window, shift, strict=True)
    ]
    part = parts[0][:, None] * 3 + parts[1]
    part = part.view(rows, window[0], columns, window[1]).transpose(1, 2).reshape(rows * columns, -1)
    return torch.where(part[:, None] != part[:, :, None], MASKED, 0.0).to(x.dtype)
