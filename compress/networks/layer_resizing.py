"""Resizing of layers of any kind to the widths that pruning left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from compress.errors import UsageError
from compress.networks.narrow_attention import narrow

# Attributes of modules that follow from no weight's shape: width of norms without weights, number and width of
# attention heads, groups of convolutions.
WIDTHS = ("num_features", "num_channels", "normalized_shape")
HEADS = ("num_heads", "attn_dim")
GROUPS = "groups"
NUMBERS = (*HEADS, GROUPS, *WIDTHS)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def resize(network: nn.Module, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Change the shapes of parameters and buffers, and the attributes of their layers; shared tensors stay shared.

    Raises:
        UsageError: the network has no parameter or buffer of that name.
    """
    whole: dict[nn.Module, Tensor] = {}  # previous weight by layer
    replaced: dict[int, tuple[Tensor, Tensor]] = {}  # by id of the old tensor; kept alive, as ids are reused
    for name, shape in shapes:
        path, _, field = name.rpartition(".")
        try:
            layer = network.get_submodule(path)
            tensor = getattr(layer, field)
        except AttributeError as error:
            raise UsageError(f"resized {name!r}: the network has no such parameter") from error
        whole.setdefault(layer, getattr(layer, "weight", tensor))
        narrow(network.get_submodule(path.rpartition(".")[0]))  # the attention module that has the layer
        blank = tensor.new_zeros(shape)
        blank = nn.Parameter(blank) if isinstance(tensor, nn.Parameter) else blank
        setattr(layer, field, replaced.setdefault(id(tensor), (tensor, blank))[1])
    for layer, weight in whole.items():
        _renumber(layer, weight)


def set_number(network: nn.Module, name: str, number: int) -> None:
    """Set an attribute of a module that counts channels, heads or groups.

    Raises:
        UsageError: the network has no such attribute, or it counts something else.
    """
    path, _, field = name.rpartition(".")
    try:
        module = network.get_submodule(path)
        value = getattr(module, field)
    except AttributeError as error:
        raise UsageError(f"number {name!r}: the network has no such number") from error
    if field not in NUMBERS or not isinstance(value, int | tuple):
        raise UsageError(f"number {name!r}: none of {', '.join(NUMBERS)}")
    setattr(module, field, (number,) if isinstance(value, tuple) else number)
    if field == "num_heads":
        narrow(module)


def numbers_of(net: nn.Module, part: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the `NUMBERS` of the modules in a part of a network, by name, that follow from no weight's shape."""
    names = {name for name, _ in part.named_modules()} | {name.rpartition(".")[0] for name in part.state_dict()}
    owners = {
        ".".join(parts[:count]) for parts in (name.split(".") for name in names) for count in range(len(parts) + 1)
    }
    for name in sorted(owners - {""}):
        try:
            module = net.get_submodule(name)
        except AttributeError:  # a constant of the graph
            continue
        bare = isinstance(module, NORMS) and not module.state_dict()
        grouped = isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1
        for field in (*HEADS, *((GROUPS,) if grouped else ()), *(WIDTHS if bare else ())):
            value = getattr(module, field, None)
            if isinstance(value, tuple) and len(value) == 1:
                [value] = value
            if type(value) is int:
                yield f"{name}.{field}", value


def _renumber(layer: nn.Module, before: Tensor) -> None:
    """Update a layer's attributes to its new weights; `before` is its previous weight."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        layer.in_channels, layer.out_channels = len(layer.weight), layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.modules.conv._ConvNd):
        if before.shape[1] == 1 < layer.groups == layer.in_channels:  # depthwise, its groups not set before
            layer.groups = len(layer.weight) * layer.groups // len(before)
        layer.out_channels, layer.in_channels = len(layer.weight), layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        layer.num_features = len(next(iter(layer.state_dict().values())))
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = len(layer.weight)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
    elif isinstance(layer, nn.MultiheadAttention):
        layer.embed_dim = layer.out_proj.out_features
        narrow(layer)
