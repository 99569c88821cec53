"""Logits of every exit, recomputed by the engine that a policy is for, since stored ones are rounded to fp16."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measuring.engines.pytorch import DTYPES
from compress.data import Normalisation, Part, in_order, normalise
from compress.export.cascade import opened_cascade
from compress.hardware import repeatable
from compress.networks import Network

BATCH = 250
Logits = NDArray[np.float32]


def placed(network: Network, device: torch.device) -> Network:
    """A copy of a network as eager runs it: on the device, channels last."""
    return copy.deepcopy(network).to(device).to(memory_format=torch.channels_last).eval()


@contextlib.contextmanager
def opened_exits(
    network: Network, normalisation: Normalisation, *, engine: str, precision: str, device: torch.device
) -> Iterator[Callable[[Tensor], Logits]]:
    """A function from uint8 images `(N, C, H, W)` to logits `(exits, N, classes)`, as early exit computes them.

    Runtimes run stages of the network.

    Raises:
        UsageError: the engine cannot run the network.
    """
    if engine != "eager":
        with opened_cascade(network, normalisation, engine=engine) as cascade:
            yield lambda images: cascade.logits(images.numpy(force=True))
        return
    dtype = DTYPES[precision]
    there = placed(network, device).to(dtype)

    @torch.inference_mode()
    @repeatable(device)
    def answer(images: Tensor) -> Logits:
        logits = there(normalise(images.to(device), normalisation).to(dtype))
        found: Logits = torch.stack(logits).float().numpy(force=True)
        return found

    yield answer


def exit_logits(answer: Callable[[Tensor], Logits], part: Part) -> Logits:
    """Logits `(exits, N, classes)` of a part's images, by a function that `opened_exits` yields."""
    return np.concatenate([answer(images) for images in part.batches(in_order(len(part), BATCH))], axis=1)
