"""Channel layout: the channel dimension of every value in a traced network, as its layers imply it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx, nn

# Layers with channels in the second dimension, and in the last; other operations keep their input's channels.
SECOND = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention)
SECOND_NAMES = ("conv", "batch_norm", "instance_norm", "group_norm", "pool", "interpolate", "pixel_")
LAST_NAMES = ("linear", "layer_norm", "multi_head_attention")
PERMUTING = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")

Shapes = Mapping[fx.Node, tuple[int, ...]]


def channel_dims(model: nn.Module, graph_nodes: list[fx.Node], shapes: Shapes) -> dict[fx.Node, int]:
    """The channel dimension of every value for which it is known."""
    found: dict[fx.Node, int] = {}
    for node in graph_nodes:
        if (shape := shapes.get(node)) is None or len(shape) < 2:
            continue
        dim = 1 if node.op == "placeholder" else _made(model, node, len(shape))
        if dim is None:
            dim = _handed_on(node, shape, found, shapes)
        if dim is not None:
            found[node] = dim
    return found


def _made(model: nn.Module, node: fx.Node, dims: int) -> int | None:
    """The channel dimension of a layer's output; None if no layer made the value."""
    if node.op == "call_module":
        layer = model.get_submodule(str(node.target))
        if type(layer).__module__.startswith("torch.nn"):  # a subclass may do anything
            return 1 if isinstance(layer, SECOND) else dims - 1 if isinstance(layer, LAST) else None
        return None
    name = _name(node)
    if any(known in name for known in LAST_NAMES):
        return dims - 1
    return 1 if any(known in name for known in SECOND_NAMES) else None


def _handed_on(node: fx.Node, shape: tuple[int, ...], found: Mapping[fx.Node, int], shapes: Shapes) -> int | None:
    """The channel dimension of an operation's output, as it follows from its inputs."""
    for source in node.all_input_nodes:
        if source not in found:
            continue
        dim, before = found[source], shapes[source]
        if _name(node) in PERMUTING:
            return _permuted(node, dim, len(shape))
        if len(before) == len(shape):
            return dim
        if dim == len(before) - 1 and before[-1] == shape[-1]:  # positions are reshaped
            return len(shape) - 1
        if dim == 1 and before[:2] == shape[:2]:
            return 1
    return None


def _permuted(node: fx.Node, dim: int, dims: int) -> int | None:
    """The position of dimension `dim` after a permutation."""
    if len(node.all_input_nodes) > 1:  # the new order is computed
        return None
    sizes = torch.empty(*range(1, dims + 1), device="meta")
    others = node.args[1:], node.kwargs
    call = getattr(torch, _name(node)) if node.op == "call_function" else getattr(torch.Tensor, _name(node))
    order = list(call(sizes, *others[0], **others[1]).shape)
    return order.index(dim + 1)


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)) if node.op != "call_module" else ""
