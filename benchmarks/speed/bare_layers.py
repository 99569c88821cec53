"""Bare layers: a network's convolutions and linear layers alone, forward and backward, the floor of a training step.

Every layer computes on its own tensors, with the shape, precision and memory format that it meets in the network, so
that caches are as cold as there. Batch norm, activations, additions, loss and update are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.hardware import Precision
from compress.networks import Network
from compress.networks.network import evaluating
from compress.networks.strided_pointwise import SubsampledConv2d


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One convolution or linear layer: its weight, its input, and the gradient of its output."""

    module: nn.Conv2d | nn.Linear
    weight: Tensor
    inputs: Tensor
    gradient: Tensor

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass for one image."""
        return self.gradient[0].numel() * math.prod(self.weight.shape[1:])

    def forward(self) -> Tensor:
        """The output."""
        if isinstance(self.module, nn.Linear):
            return functional.linear(self.inputs, self.weight)
        output: Tensor = torch.ops.aten.convolution(self.inputs, self.weight, None, *self._geometry)
        return output

    def backward(self, *, of_input: bool) -> tuple[Tensor | None, Tensor]:
        """The gradients of the input, if `of_input`, and of the weight."""
        if isinstance(self.module, nn.Linear):
            return self.gradient @ self.weight if of_input else None, self.gradient.t() @ self.inputs
        wanted = [of_input, True, False]
        gradients: tuple[Tensor | None, Tensor, None] = torch.ops.aten.convolution_backward(
            self.gradient, self.inputs, self.weight, None, *self._geometry, wanted
        )
        return gradients[:2]

    @property
    def _geometry(self) -> tuple[Any, ...]:
        conv = self.module
        assert isinstance(conv, nn.Conv2d)
        stride = (1, 1) if isinstance(conv, SubsampledConv2d) else conv.stride
        return stride, conv.padding, conv.dilation, False, (0, 0), conv.groups


def bare_layers(network: Network, images: Tensor, precision: Precision) -> list[Layer]:
    """Every convolution and linear layer that the images `(N, C, H, W)` pass through, in order."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    found = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        taken = module.subsample(inputs[0]) if isinstance(module, SubsampledConv2d) else inputs[0]
        found.append(
            Layer(
                module=module,
                weight=module.weight.detach().to(dtype),
                inputs=torch.randn_like(taken, dtype=dtype),
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


@torch.no_grad()
def floor(layers: list[Layer]) -> None:
    """Compute all layers forward, then backward; the first without the gradient of its input, the images."""
    for layer in layers:
        layer.forward()
    for layer in reversed(layers):
        layer.backward(of_input=layer is not layers[0])
