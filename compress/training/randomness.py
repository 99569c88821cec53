"""Random numbers of layers in training: dropout, stochastic depth."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch


@contextlib.contextmanager
def own_randomness(device: torch.device, purpose: Sequence[int]) -> Iterator[None]:
    """Seed torch from these numbers; the caller's random state is restored at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng(purpose).integers(2**63)))
        yield
