"""Compaction: from which batch size on it pays to take images that have left out of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.measuring.rounds import interleaved, quartiles
from compress.inference import EarlyExit, Policy
from compress.networks import Network

BATCH_SIZES = (2, 8, 32, 128)
ROUNDS = 9
Quartiles = tuple[float, float, float]


def measure_compaction(
    network: Network,
    images: Tensor,
    policy: Policy,
    *,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    rounds: int = ROUNDS,
    dtype: torch.dtype | None = None,
) -> dict[int, Quartiles]:
    """For every batch size, the time of early exit with compaction / without, timed in turn: quartiles over the rounds.

    Args:
        images: normalised images `(N, C, H, W)` on the network's device, in its memory format; not test images. Batch
            sizes above N are left out.
        dtype: what early exit computes in.
    """
    early, plain = (EarlyExit(network, policy, compact=compact, dtype=dtype) for compact in (True, False))
    ratios = {}
    for size in (size for size in batch_sizes if size <= len(images)):
        batches = images.split(size)
        calls = [partial(_answer, exiting, batches) for exiting in (early, plain)]
        seconds, _ = interleaved(calls, rounds=rounds, device=images.device)
        ratios[size] = quartiles(seconds[:, 0] / seconds[:, 1])
    return ratios


def compact_from(ratios: Mapping[int, Quartiles]) -> int | bool:
    """The smallest batch size from which on compaction paid at all that were measured; False if at none.

    It paid where the upper quartile of its ratio is below 1. The result is the argument `compact` of `EarlyExit`.
    """
    smallest: int | bool = False
    for size in sorted(ratios, reverse=True):
        if ratios[size][-1] >= 1:
            break
        smallest = size
    return smallest


def _answer(early: EarlyExit, batches: Sequence[Tensor]) -> None:
    for batch in batches:
        early(batch)
