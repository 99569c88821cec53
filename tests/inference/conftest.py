"""Multi-exit networks as training might leave them, and policies by which their images leave at every exit."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.inference import Policy, policy_of_shares
from compress.networks import Network, digest_of_weights
from tests.baselines.networks import network_of

COUNT = 128


def logits_of(network: Network, images: Tensor) -> NDArray[Any]:
    """Logits `(exits, N, classes)` of the whole network for all images at once."""
    with torch.inference_mode():
        return torch.stack(network(images)).float().numpy()


def even_policy(network: Network, logits: NDArray[Any]) -> Policy:
    """A policy by which as many of these images leave at every exit; its thresholds are between their confidences."""
    exits = len(logits)
    temperatures = tuple(float(exit.std()) for exit in logits)
    never = Policy(temperatures=temperatures, thresholds=(1.0,) * (exits - 1), weights=digest_of_weights(network))
    return policy_of_shares(never, np.full(exits, 1 / exits), logits)


@pytest.fixture(scope="module")
def network() -> Network:
    """ResNet-8 with an exit after each of its three blocks."""
    return network_of("resnet8", exits=3)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """128 grey images of noise, 8x8."""
    return torch.randn(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def logits(network: Network, images: Tensor) -> NDArray[Any]:
    """Logits of all exits."""
    return logits_of(network, images)


@pytest.fixture(scope="module")
def policy(network: Network, logits: NDArray[Any]) -> Policy:
    """A third of the images leaves at each exit."""
    return even_policy(network, logits)
