"""Rules for operators: how those of ATen pass on the channels that are tracked, by kind of operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

if TYPE_CHECKING:
    from baselines.channel_tracking import Tracker

# fmt: off
# Operators that move elements and compute nothing; views do so, too.
MOVING = {
    "cat", "stack", "roll", "flip", "repeat", "repeat_interleave", "index", "index_select", "gather",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "_unsafe_view", "tril", "triu", "select_scatter",
    "slice_scatter",
}
COPYING = {
    "clone", "_to_copy", "contiguous", "detach", "alias", "lift_fresh", "dropout", "native_dropout",
}
# Reductions along dimensions: channels that are reduced together go together.
REDUCING = {
    "mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "linalg_vector_norm", "norm", "logsumexp",
    "prod", "any", "all", "_softmax", "_log_softmax", "softmax", "cumsum",
}
# Operators on each channel of (N, C, ...) by itself, over positions.
OVER_POSITIONS = {
    "avg_pool1d", "avg_pool2d", "max_pool2d_with_indices", "max_pool2d", "adaptive_max_pool2d",
    "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "upsample_nearest2d", "_upsample_nearest_exact2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
}
POINTWISE = {
    "hardswish", "hardswish_", "copy_", "log_sigmoid_forward", "masked_fill", "masked_fill_",
}
# fmt: on
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2)}


class Operators(TorchDispatchMode):
    """Follows channels through every operator that runs outside a layer."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = tracker

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        values = function(*args, **given)
        if not self.tracker.silent:
            with self.tracker.quiet():
                self._follow(function, values, args, given)
        return values

    def _follow(self, function: Any, values: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        tracker, name = self.tracker, function._schema.name.partition("::")[2]
        inputs = [leaf for leaf in tree_flatten((args, given))[0] if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, Tensor)]
        held = [tracker.of(tensor) for tensor in inputs]
        if not any(channels.any() for channels in held) and not function.is_view and name not in POINTWISE:
            found: Iterator[Tensor] = (torch.zeros(output.shape, dtype=torch.float64) for output in outputs)
        elif name in PRODUCTS:
            found = iter([self._product(inputs, outputs[0], *PRODUCTS[name])])
        elif name in COPYING or (name == "as_strided_" and _stays(args[1], args[2])):
            found = iter([held[0].clone(), *held[1:]])
        elif function.is_view or name in MOVING:
            found = self._moved(function, name, args, given)
            if name == "split" and len({output.shape for output in outputs}) == 1:  # as chunks, which stay equal
                parts = list(found)
                for part in parts[1:]:
                    tracker.channels.join(part, parts[0])
                found = iter(parts)
        elif name in REDUCING:
            found = self._reduced(function, inputs[0], outputs, args, given)
        elif name in OVER_POSITIONS:
            over, shape = tracker.together(inputs[0], 1), [1, -1, *[1] * (inputs[0].dim() - 2)]
            found = (over.view(shape).expand(output.shape).clone() for output in outputs)
        elif torch.Tag.pointwise in function.tags or name in POINTWISE:
            found = iter([tracker.merge(held, outputs[0].shape)])
        else:
            for channels in held:
                tracker.channels.fix(channels)
            found = (torch.ones(output.shape, dtype=torch.float64) for output in outputs)
        for output, channels in zip(outputs, found, strict=False):
            if any(output is tensor for tensor in inputs) and hasattr(output, "channels"):
                output.channels.copy_(channels)  # in place, through views
            else:
                tracker.mark(output, channels)

    def _product(self, inputs: list[Tensor], output: Tensor, left: int, right: int) -> Tensor:
        tracker = self.tracker
        held = tracker.product(tracker.of(inputs[left]), tracker.of(inputs[right]))
        return tracker.merge([held, *(tracker.of(tensor) for tensor in inputs[:left])], output.shape)

    def _moved(self, function: Any, name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Iterator[Tensor]:
        """The channels, moved as the values are; those of a view are a view, too."""
        first = args[0] if not isinstance(args[0], Tensor) else [args[0]]
        moved = {id(leaf) for leaf in tree_flatten(first)[0] if isinstance(leaf, Tensor)}
        moved |= {id(args[1])} if name.endswith("scatter") else set()
        of: Callable[[Any], Any] = lambda leaf: self.tracker.of(leaf) if id(leaf) in moved else leaf  # noqa: E731
        if name in ("view", "_unsafe_view", "reshape"):
            return iter([self.tracker.of(args[0]).reshape(args[1])])
        if name == "constant_pad_nd":
            return iter([function(of(args[0]), args[1], 0)])
        found = function(*tree_map(of, args), **tree_map(of, given))
        return iter(tree_flatten(found)[0])

    def _reduced(
        self, function: Any, input: Tensor, outputs: list[Tensor], args: tuple[Any, ...], given: dict[str, Any]
    ) -> Iterator[Tensor]:
        """The channels after a reduction; those that are reduced together are joined."""
        tracker, held = self.tracker, self.tracker.of(input)
        options = dict(zip((argument.name for argument in function._schema.arguments), args, strict=False)) | given
        dims = options.get("dim")
        dims = list(range(input.dim())) if dims in (None, []) else [dims] if isinstance(dims, int) else list(dims)
        dims = sorted(dim % input.dim() for dim in dims)
        kept = [dim for dim in range(input.dim()) if dim not in dims]
        rows = held.permute(*kept, *dims).flatten(len(kept)) if kept else held.reshape(-1)
        rows = rows.reshape(-1, rows.shape[-1])
        first = tracker.channels.join_rows(rows)
        whole = first.view(*(held.shape[dim] for dim in kept), *[1] * len(dims))
        whole = whole.permute(*(([*kept, *dims]).index(dim) for dim in range(input.dim())))
        for output in outputs:
            same = output.shape == input.shape
            yield (whole.expand(input.shape) if same else whole.reshape(output.shape)).clone()


def _stays(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether elements keep their places in a dense tensor, as where pooling to one pixel marks it channels_last."""
    dense = torch.empty(shape, device="meta").stride()
    return all(size == 1 or stride == usual for size, stride, usual in zip(shape, strides, dense, strict=True))
