"""Bare layers: a network's convolutions and linear layers alone, forward and backward, the floor of a training step.

Every layer computes on its own tensors, with the shape, precision and memory format that it meets in the network, so
that caches are as cold as there. Batch norm, activations, additions, loss and update are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.hardware import Precision
from compress.networks import Network, evaluating
from compress.networks.strided_pointwise import SubsampledConv2d


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One convolution or linear layer: a function of its input and weight, and the gradient of its output."""

    module: nn.Conv2d | nn.Linear
    function: Callable[[Tensor, Tensor], Tensor]
    inputs: Tensor
    weight: Tensor
    gradient: Tensor

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass for one image."""
        return self.gradient[0].numel() * math.prod(self.weight.shape[1:])


def bare_layers(network: Network, images: Tensor, precision: Precision) -> list[Layer]:
    """Every convolution and linear layer that the images `(N, C, H, W)` pass through, in order."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        taken, function = inputs[0], functional.linear
        if isinstance(module, nn.Conv2d):
            stride = module.stride
            if isinstance(module, SubsampledConv2d):
                taken, stride = module.subsample(taken), (1, 1)
            geometry = {"padding": module.padding, "dilation": module.dilation, "groups": module.groups}
            function = partial(functional.conv2d, stride=stride, **geometry)
        found.append(
            Layer(
                module=module,
                function=function,
                inputs=torch.randn_like(taken, dtype=dtype).requires_grad_(bool(found)),  # images need no gradient
                weight=module.weight.detach().to(dtype).requires_grad_(),
                gradient=torch.randn_like(output, dtype=dtype),
            )
        )

    modules = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(note) for module in modules]
    with evaluating(network), torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return found


def floor(layers: list[Layer]) -> list[tuple[Tensor, ...]]:
    """Compute all layers forward, then backward; returns the gradients of each layer's weight and, if any, input."""
    outputs = [layer.function(layer.inputs, layer.weight) for layer in layers]
    return [
        torch.autograd.grad(output, [t for t in (layer.weight, layer.inputs) if t.requires_grad], layer.gradient)
        for layer, output in reversed(list(zip(layers, outputs, strict=True)))
    ]
