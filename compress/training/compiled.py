"""Compilation of a network's blocks for training, which fuses batch norm, activation and addition."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from compress.console import console
from compress.errors import first_line
from compress.networks import Network

MOST_KINDS = 16  # of blocks; a ResNet of three stages has five or six
ON_A_GPU: Mapping[str, bool] = {
    "deterministic": True,  # kernels by rule: chosen by timing them, they might differ after a resume, see `repeatable`
    "triton.autotune_pointwise": False,  # else pointwise kernels are timed, which takes seconds a training
    # A fusion of reductions along different axes, of which several bugs were known: some gave wrong gradients silently
    # (https://github.com/pytorch/pytorch/issues/190796 and 193061, torch 2.10 and later).
    "triton.mix_order_reduction": False,
}


def compiled(network: Network) -> Network:
    """A network that shares all layers and runs its blocks compiled; the network itself if torch.compile does not work.

    Blocks are compiled one by one, since equal blocks share a compilation: ResNet-110 takes as long as ResNet-20. Use
    the original network for evaluation, cutting, saving and counting. Results differ in the last bits, since fused
    loops add in another order.
    """
    device = next(network.parameters()).device
    try:
        torch.compile(_probe)(torch.ones(2, device=device))
    except Exception as error:  # without a C++ compiler, Python's headers or Triton; they have no error in common
        console.print(f"torch.compile does not work here ({first_line(error)}): training goes on without it")
        return network
    dynamo = torch._dynamo.config
    dynamo.recompile_limit += len(network.blocks)  # a pruned net's blocks all differ, from other nets' too
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, dynamo.recompile_limit)
    twin = copy.copy(network)
    twin._modules = network._modules.copy()
    twin.blocks = nn.ModuleList(
        cast(nn.Module, torch.compile(block, dynamic=False, options=options_on(device))) for block in network.blocks
    )
    return twin


def pays(network: Network) -> bool:
    """Whether compiling pays in a training of minutes: every kind of block takes seconds.

    Blocks are of kinds of their own in a pruned network, and where each is dropped at a rate of its own.
    """
    drops = [getattr(block, "drop", 0.0) for block in network.blocks]
    return len(set(zip(network.spec.blocks, drops, strict=True))) <= MOST_KINDS


def options_on(device: torch.device) -> dict[str, str | int | bool | Callable[..., Any]] | None:
    """Options of torch.compile for a device; None: the usual ones."""
    return dict(ON_A_GPU) if device.type == "cuda" else None


def _probe(values: torch.Tensor) -> torch.Tensor:
    return values + 1
