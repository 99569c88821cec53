"""Compilation of a network's blocks for training, which fuses batch norm, activation and addition."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from compress.console import console
from compress.errors import first_line
from compress.networks import Network

MOST_KINDS = 16  # of blocks; a ResNet of three stages has five or six


def compiled(network: Network) -> Network:
    """A network that shares all layers and runs its blocks compiled; the network itself if torch.compile does not work.

    Blocks are compiled one by one, since equal blocks share a compilation: ResNet-110 takes as long as ResNet-20. Use
    the original network for evaluation, cutting, saving and counting. Results differ in the last bits, since fused
    loops add in another order.
    """
    try:
        torch.compile(_probe)(torch.ones(2, device=next(network.parameters()).device))
    except Exception as error:  # without a C++ compiler, Python's headers or Triton; they have no error in common
        console.print(f"torch.compile does not work here ({first_line(error)}): training goes on without it")
        return network
    dynamo = torch._dynamo.config
    dynamo.recompile_limit += len(network.blocks)  # a pruned net's blocks all differ, from other nets' too
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, dynamo.recompile_limit)
    twin = copy.copy(network)
    twin._modules = network._modules.copy()
    twin.blocks = nn.ModuleList(
        cast(nn.Module, torch.compile(block, dynamic=False, options=_options(network))) for block in network.blocks
    )
    return twin


def pays(network: Network) -> bool:
    """Whether compiling pays in a training of minutes: every kind of block takes seconds.

    Blocks are of kinds of their own in a pruned network, and where each is dropped at a rate of its own.
    """
    drops = [getattr(block, "drop", 0.0) for block in network.blocks]
    return len(set(zip(network.spec.blocks, drops, strict=True))) <= MOST_KINDS


def _options(network: Network) -> dict[str, str | int | bool | Callable[..., Any]] | None:
    """On a GPU, kernels chosen by rule: chosen by timing them, they might differ after a resume (see `repeatable`)."""
    import torch._inductor.config as inductor

    cuda = next(network.parameters()).device.type == "cuda"
    return {"deterministic": True} if cuda and hasattr(inductor, "deterministic") else None


def _probe(values: torch.Tensor) -> torch.Tensor:
    return values + 1
