"""Networks as training leaves them, for tests that train none."""

import torch
from torch import nn

from compress.networks import Network, create


def trained_like(network: Network) -> Network:
    """The network in eval mode, with all kinds of scales and statistics in its batch norms."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.get_buffer("running_mean").normal_(std=0.1)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    return network.eval()


def differing(one: Network, other: Network) -> list[str]:
    """The names of the tensors that differ between two networks; they have the same names."""
    ours, others = one.state_dict(), other.state_dict()
    assert ours.keys() == others.keys()
    return [name for name, tensor in ours.items() if not torch.equal(tensor, others[name])]


def network_of(arch: str = "resnet8", exits: int | str | list[int | str] = 1, size: int = 8, seed: int = 1) -> Network:
    """A network for grey images of this size, as training might leave it."""
    torch.manual_seed(seed)
    return trained_like(create(arch, exits=exits, input_shape=(1, size, size)))
