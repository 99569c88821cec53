"""Groups of channels in torch-pruning's form: their layers, and the channel that every entry of a weight belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from baselines.channel_tracking import Axis
from baselines.coupling import Group
from compress.networks import Network


def torch_pruning_group(network: Network, group: Group) -> Any:
    """torch-pruning's group, rooted at the layer that writes the channels, which are `(ways, units)`, flattened."""
    from torch_pruning.dependency import Dependency, Node  # here, as importing it takes seconds
    from torch_pruning.dependency import Group as TheirGroup

    theirs = TheirGroup()
    axes = [*group.writers, *(axis for axis in group.entries if axis not in group.writers)]
    for axis in axes:
        layer, handler, repeats = _layer(network, axis, axis in group.writers)
        if layer is None:
            continue
        entries = group.entries[axis]
        width = network.get_parameter(axis[0]).shape[axis[1]]
        entries = np.concatenate([entries + width * group_ for group_ in range(repeats)], axis=1)
        ways = np.arange(entries.shape[1]) * group.ways // entries.shape[1]
        roots = ways * group.units + np.arange(group.units)[:, None]
        node = Node(layer, None, axis[0])
        theirs.add_dep(Dependency(handler, handler, node, node), entries.T.flatten().tolist())
        theirs[len(theirs) - 1].root_idxs = roots.T.flatten().tolist()
    return theirs


def _layer(network: Network, axis: Axis, written: bool) -> tuple[nn.Module | None, Any, int]:
    """The layer whose weight has this axis, torch-pruning's function for it, and how many groups read an entry.

    The layer is None for what criteria do not look at: biases, statistics, and depthwise convolutions.
    """
    from torch_pruning.pruner import function

    name, _ = axis
    path, _, field = name.rpartition(".")
    layer = network.get_submodule(path) if field in ("weight", "in_proj_weight") else None
    if isinstance(layer, nn.MultiheadAttention) or type(layer) is nn.Module:  # a weight used outside layers
        weight = network.get_parameter(name)
        layer = nn.Linear(1, 1) if weight.dim() == 2 else nn.LayerNorm(1) if weight.dim() == 1 else nn.Conv2d(1, 1, 1)
        layer.weight = weight
    if isinstance(layer, nn.modules.conv._ConvNd):
        if 1 < layer.groups == layer.in_channels:
            return None, None, 1
        handler = function.prune_conv_out_channels if written else function.prune_conv_in_channels
        return layer, handler, 1 if written else layer.groups
    for kind, handler in (
        (nn.Linear, function.prune_linear_out_channels if written else function.prune_linear_in_channels),
        (nn.modules.batchnorm._BatchNorm, function.prune_batchnorm_out_channels),
        (nn.LayerNorm, function.prune_layernorm_out_channels),
    ):
        if isinstance(layer, kind):
            return layer, handler, 1
    return None, None, 1
