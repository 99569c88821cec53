"""Attention whose heads together are narrower than the channels they read, as pruning leaves them.

torch's and torchvision's own take the width of a head for the channels over the number of heads. These have the same
weights under the same names, and compute the same where nothing was pruned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -100.0  # added before the softmax, as torchvision does


def narrow(attention: nn.Module) -> None:
    """Let an attention module, torch's or a Swin transformer's, take any number of heads; others stay as they are."""
    if type(attention) is nn.MultiheadAttention:
        attention.__class__ = NarrowAttention
    elif type(attention).__name__ == "ShiftedWindowAttention":
        attention.__class__ = _window_attention(type(attention))


class NarrowAttention(nn.MultiheadAttention):
    """Of a sequence to itself; batch first or second."""

    def forward(self, query: Tensor, *_: Tensor, **__: bool) -> tuple[Tensor, None]:  # type: ignore[override]
        """The mixed sequence, and no weights."""
        sequence = query if self.batch_first else query.transpose(0, 1)
        projected = functional.linear(sequence, self.in_proj_weight, self.in_proj_bias)
        parts = projected.unflatten(-1, (3, self.num_heads, -1)).movedim((-3, -2), (0, -3))
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], dropout_p=dropout)
        output = self.out_proj(mixed.transpose(-3, -2).flatten(-2))
        return output if self.batch_first else output.transpose(0, 1), None


def _window_attention(theirs: type[nn.Module]) -> type[nn.Module]:
    """The class of torchvision's attention in shifted windows, `(N, H, W, C)` -> `(N, H, W, C)` (Liu et al. 2021)."""

    class NarrowWindowAttention(theirs):  # type: ignore[misc, valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return window_attention(
                x,
                self.qkv.weight,
                self.qkv.bias,
                self.proj.weight,
                self.proj.bias,
                self.get_relative_position_bias(),
                self.num_heads,
                self.window_size,
                self.shift_size,
                self.attention_dropout,
                self.dropout,
                self.training,
            )

    return NarrowWindowAttention


def window_attention(
    x: Tensor,
    qkv_weight: Tensor,
    qkv_bias: Tensor | None,
    proj_weight: Tensor,
    proj_bias: Tensor | None,
    position_bias: Tensor,
    heads: int,
    window: list[int],
    shift: list[int],
    attention_dropout: float,
    dropout: float,
    training: bool,
) -> Tensor:
    """Attention of `(N, H, W, C)` within windows, which are shifted where there are several."""
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
    query, key, value = functional.linear(x, qkv_weight, qkv_bias).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + position_bias
    if down or right:
        mask = _mask(x, rows, columns, window, (down, right))
        weights = (weights.unflatten(0, (batch, -1)) + mask[:, None]).flatten(0, 1)
    weights = functional.dropout(weights.softmax(-1), attention_dropout, training)
    x = functional.linear((weights @ value).transpose(1, 2).flatten(2), proj_weight, proj_bias)
    x = functional.dropout(x, dropout, training)
    x = x.view(batch, rows, columns, *window, len(proj_weight)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    x = torch.roll(x, (down, right), (1, 2))
    return x[:, :height, :width].contiguous()


torch.fx.wrap("window_attention")


def _mask(x: Tensor, rows: int, columns: int, window: list[int], shift: tuple[int, int]) -> Tensor:
    """`(windows, tokens, tokens)`: what to add, so that what has been shifted past an edge is not looked at."""
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
