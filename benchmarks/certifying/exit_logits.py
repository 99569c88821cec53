"""Logits of every exit, recomputed by the engine that a policy is for, since stored ones are rounded to fp16."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measuring.engines.pytorch import DTYPES
from compress.data import Normalisation, Part, in_order, normalise
from compress.export.cascade import stage_logits
from compress.networks import Network

BATCH = 250


def placed(network: Network, precision: str, device: torch.device) -> Network:
    """A copy of a network as eager runs it: on the device, cast to the precision, channels last."""
    return copy.deepcopy(network).to(device, DTYPES[precision]).to(memory_format=torch.channels_last).eval()


def exit_logits(
    network: Network, part: Part, normalisation: Normalisation, *, engine: str, precision: str, device: torch.device
) -> NDArray[np.float32]:
    """Logits `(exits, N, classes)` of a part's images as early exit computes them; runtimes run stages of the network.

    Raises:
        UsageError: the engine cannot run the network.
    """
    indices = in_order(len(part), BATCH)
    if engine != "eager":
        batches = (images.cpu().numpy() for images in part.batches(indices))
        return stage_logits(network, normalisation, batches, engine=engine)
    there, dtype = placed(network, precision, device), DTYPES[precision]
    found = []
    with torch.inference_mode():
        for images in part.to(device).batches(indices):
            found.append(torch.stack(there(normalise(images, normalisation).to(dtype))).float().numpy(force=True))
    return np.concatenate(found, axis=1)
