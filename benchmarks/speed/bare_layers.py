"""Bare layers: a network's convolutions and linear layers alone, forward and backward, the floor of a training step.

Every layer computes on its own tensors, with the shape, precision and memory format that it meets in the network, so
that caches are as cold as there. Batch norm, activations, additions, loss and update are left out.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.measuring.rounds import Call
from compress.hardware import Precision, repeatable
from compress.networks import Network, evaluating
from compress.training.capture import CudaGraph


class Layer(NamedTuple):
    """A copy of a convolution or linear layer, its input, and the gradient of its output."""

    module: Any
    inputs: Tensor
    gradient: Tensor


def bare_layers(network: Network, images: Tensor, precision: Precision) -> list[Layer]:
    """Every convolution and linear layer that the images `(N, C, H, W)` pass through, in order."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    calls: list[tuple[nn.Module, tuple[Tensor], Tensor]] = []
    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(lambda *call: calls.append(call)) for module in modules]
    with evaluating(network), torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return [
        Layer(
            copy.deepcopy(module).to(dtype),
            torch.randn_like(inputs, dtype=dtype).requires_grad_(number > 0),  # images need no gradient
            torch.randn_like(output, dtype=dtype),
        )
        for number, (module, (inputs,), output) in enumerate(calls)
    ]


def floor(layers: list[Layer]) -> list[tuple[Tensor, ...]]:
    """Compute all layers forward, then backward; returns the gradients of each layer's weight and, if any, input."""
    outputs = [layer.module(layer.inputs) for layer in layers]
    return [
        torch.autograd.grad(output, [t for t in (layer.module.weight, layer.inputs) if t.requires_grad], layer.gradient)
        for layer, output in reversed(list(zip(layers, outputs, strict=True)))
    ]


def floor_call(layers: list[Layer], device: torch.device) -> Call:
    """A call of `floor` under the conditions of a step: on CUDA the replay of a graph.

    The caller has to keep the layers: the graph computes in their memory.

    Raises:
        RuntimeError: it cannot be recorded.
    """

    def run() -> None:
        with repeatable(device):
            floor(layers)

    if device.type != "cuda":
        return run
    graph = CudaGraph(device)
    graph.record(run)
    return graph.replay
