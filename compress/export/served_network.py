"""The network as it is served: pixels in, the logits or probabilities of one exit out, in one tensor each."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from compress.data import Normalisation
from compress.networks import Network


class Pixels(nn.Module):
    """Images as the network takes them: `(pixel / 255 - mean) / std` of uint8, or of fp32 from 0 to 1.

    Attributes:
        bytes: whether images are uint8.
    """

    def __init__(self, normalisation: Normalisation, *, bytes: bool) -> None:
        super().__init__()
        self.bytes = bytes
        self.mean: Tensor
        self.std: Tensor
        for name, values in (("mean", normalisation.mean), ("std", normalisation.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        shares = images.float() / 255 if self.bytes else images
        return (shares - self.mean) / self.std


class LastExit(nn.Module):
    """A network that returns the logits of its last exit alone, `(N, classes)` in fp32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)[-1]
        return logits.float()


class ServedNetwork(nn.Module):
    """A copy of a network on the CPU, in fp32 and eval mode, with its normalisation inside.

    Attributes:
        probabilities: whether it returns probabilities; otherwise logits.
    """

    def __init__(self, network: Network, normalisation: Normalisation, *, bytes: bool, probabilities: bool) -> None:
        super().__init__()
        # From channels-last weights the ONNX exporter makes a graph with transpositions.
        copied = copy.deepcopy(network).to("cpu", torch.float32).to(memory_format=torch.contiguous_format)
        self.logits = LastExit(copied)
        self.pixels, self.probabilities = Pixels(normalisation, bytes=bytes), probabilities
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.pixels(images))
        return logits.softmax(dim=1) if self.probabilities else logits
