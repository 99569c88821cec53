"""The digest of a network's weights, by which policies and certificates name the network that they hold for."""

import hashlib

import torch
from torch import nn


def digest_of_weights(network: nn.Module) -> str:
    """SHA-256 (hex) of all parameters and buffers, by name; equal on all devices and in all memory formats."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(dtype=torch.uint8).numpy().data)
    return sha.hexdigest()
