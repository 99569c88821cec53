"""Logits of every exit, recomputed by the engine that a policy is for, since stored ones are rounded to fp16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measuring.calibration_images import padded
from benchmarks.measuring.engines import Engine, Source
from benchmarks.measuring.engines.pytorch import DTYPES
from compress.data import Normalisation, Part, in_order, normalise
from compress.networks import Network, cut

BATCH = 250


def placed(network: Network, precision: str, device: torch.device) -> Network:
    """A copy of a network as eager runs it: on the device, cast to the precision, channels last."""
    there = copy.deepcopy(network).to(device, DTYPES[precision])
    return there.to(memory_format=torch.channels_last).eval()


def exit_logits(
    network: Network,
    part: Part,
    normalisation: Normalisation,
    *,
    engine: Engine,
    precision: str,
    device: torch.device,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Logits `(exits, N, classes)` of a part's images, by an engine in a precision.

    Raises:
        UsageError: the engine cannot run the network.
    """
    size = min(BATCH, len(part))
    with TemporaryDirectory() as folder, torch.inference_mode():
        blank = engine.place(torch.zeros(size, *network.spec.input_shape), device)
        infer = _all_exits(network, blank, engine, precision, threads, Path(folder))
        logits = np.empty((len(network.spec.exits), len(part), network.spec.classes), dtype=np.float32)
        indices = in_order(len(part), size)
        for chosen, images in zip(indices, part.batches(indices), strict=True):
            batch = engine.place(padded(normalise(images.cpu(), normalisation), size), device)
            for exit, found in enumerate(infer(batch)):
                logits[exit, chosen[0] : chosen[-1] + 1] = found[: len(chosen)].float().numpy(force=True)
    return logits


def _all_exits(
    network: Network, blank: Tensor, engine: Engine, precision: str, threads: int, folder: Path
) -> Callable[[Tensor], list[Tensor]]:
    """A function from placed images, of the shape of `blank`, to the logits of every exit."""
    if engine.name == "eager":
        whole, dtype = placed(network, precision, blank.device), DTYPES[precision]
        return lambda images: list(whole(images.to(dtype)))
    exits = range(1, len(network.spec.exits) + 1)
    sources = [Source(cut(network, exit), folder / str(exit)) for exit in exits]
    cuts = engine.prepare(sources, blank, precision, threads)
    return lambda images: [infer(images) for infer in cuts]
