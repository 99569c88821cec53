"""Compilation of a network for training: every block's batch norm, activation and addition become fused loops."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from compress.console import console
from compress.errors import first_line
from compress.networks import Network


def compiled(network: Network) -> Network:
    """A network on the same layers whose blocks run compiled; the network itself where torch.compile does not work.

    Block by block, since equal blocks share one compilation: it takes as long for ResNet-110 as for ResNet-20. All
    else (evaluation, cutting, weights, counting) stays with the network as it was. Results differ in the last bits:
    fused loops add in another order.
    """
    try:
        torch.compile(_probe)(torch.ones(2, device=next(network.parameters()).device))
    except Exception as error:  # without a C++ compiler, Python's headers or Triton; they have no error in common
        console.print(f"torch.compile does not work here ({first_line(error)}): training goes on without it")
        return network
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, len(network.blocks))  # a pruned net's blocks all differ
    twin = copy.copy(network)
    twin._modules = network._modules.copy()
    twin.blocks = nn.ModuleList(cast(nn.Module, torch.compile(block, dynamic=False)) for block in network.blocks)
    return twin


def _probe(values: torch.Tensor) -> torch.Tensor:
    return values + 1
