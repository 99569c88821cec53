"""Latency: how long one forward takes, for networks measured interleaved, as times and as ratios to the first.

A single time on a shared machine means little; the ratio of two networks timed in the same round means a lot.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compress.cost import Cost, exit_costs
from compress.errors import UsageError
from compress.hardware import describe, resolve_device
from compress.networks import Network, cut
from compress.runs import Run, load, write_json
from compress.training.progress import console, duration

# Importing torch's timer warns wherever CUDA's compiler is installed without a GPU.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
from torch.utils.benchmark import Timer  # noqa: E402

BENCH = "bench.json"
ENGINE, PRECISION = "eager", "fp32"
ROUNDS = 9  # of a ratio that pruning asks for
WARM_UP = 2  # passes that torch's timer adds to every timing
SECONDS_A_TIMING = 0.02  # short forwards are repeated until a timing takes this long


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One exit of one run, as a network of its own, ready to be timed."""

    run: Run
    exit: int
    cost: Cost
    network: Network


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds a forward pass of one candidate at one batch size: quartiles over the rounds.

    `ratio` is to the reference in the same round. Both are (lower quartile, median, upper quartile).
    """

    seconds: tuple[float, float, float]
    ratio: tuple[float, float, float]


def candidates(runs: Iterable[Run]) -> list[Candidate]:
    """Every exit of every run, cut out."""
    found = []
    for run in runs:
        network = load(run)
        for exit, cost in enumerate(exit_costs(network), start=1):
            found.append(Candidate(run=run, exit=exit, cost=cost, network=cut(network, exit)))
    return found


def bench(
    runs: Sequence[Run],
    *,
    batch_sizes: Sequence[int] = (1, 128),
    device: str = "auto",
    threads: int = 1,
    rounds: int = 9,
) -> list[dict[str, Any]]:
    """Measure every exit of every run and write each run's `bench.json`; returns all rows, with the run's id.

    The reference of all ratios is the last exit of the first run.

    Raises:
        UsageError: a number below 1, runs of different image shapes, or a directory that cannot be written.
    """
    if min(*batch_sizes, threads, rounds) < 1:
        raise UsageError("batch sizes, threads and rounds must be 1 or more")
    shapes = {run.spec.input_shape for run in runs}
    if len(shapes) > 1:
        raise UsageError(f"the runs take images of different shapes ({', '.join(map(str, shapes))}): bench them apart")
    where = resolve_device(device)
    measured = candidates(runs)
    reference = next(i for i, one in enumerate(measured) if one.exit == len(runs[0].exits))
    rows = []
    for batch_size in batch_sizes:
        networks = [one.network for one in measured]
        times = _interleaved(networks, reference, batch_size, where, threads, rounds)
        for one, latency in zip(measured, times, strict=True):
            rows.append(
                {
                    "run": one.run.id,
                    "exit": one.exit,
                    "macs": one.cost.macs,
                    "params": one.cost.params,
                    "bytes": one.cost.bytes,
                    "batch_size": batch_size,
                    "seconds": latency.seconds,
                    "ratio": latency.ratio,
                }
            )
    conditions = {
        "session": uuid.uuid4().hex,
        "reference": {"run": runs[0].id, "exit": len(runs[0].exits)},
        "engine": ENGINE,
        "precision": PRECISION,
        "threads": threads,
        "rounds": rounds,
        "environment": describe(where),
    }
    for run in runs:
        own = [{key: value for key, value in row.items() if key != "run"} for row in rows if row["run"] == run.id]
        write_json(run.path / BENCH, conditions | {"rows": own})
    return rows


def latency_ratio(reference: Network, network: Network) -> tuple[float, float, float]:
    """The quartiles of a network's latency as a ratio to another's, interleaved: batch 1, one thread."""
    device = next(reference.parameters()).device
    last = [cut(one, len(one.spec.exits)).eval() for one in (reference, network)]  # copies, without earlier heads
    _, latency = _interleaved(last, 0, 1, device, threads=1, rounds=ROUNDS)
    return latency.ratio


def _interleaved(
    networks: Sequence[Network], reference: int, batch_size: int, device: torch.device, threads: int, rounds: int
) -> list[Latency]:
    """Latencies of the networks, every one timed once in every round."""
    images = torch.randn(batch_size, *networks[0].spec.input_shape, device=device)
    timers = [
        Timer(
            "infer(network, images)",
            globals={
                "infer": _infer,
                "network": network.to(device).to(memory_format=torch.channels_last),
                "images": images.contiguous(memory_format=torch.channels_last),
            },
            num_threads=threads,
        )
        for network in networks
    ]
    once = [timer.timeit(1).mean for timer in timers]  # torch's timer warms up by itself: two passes, at every call
    repeats = [max(1, round(SECONDS_A_TIMING / seconds)) for seconds in once]
    expected = rounds * sum(seconds * (WARM_UP + repeat) for seconds, repeat in zip(once, repeats, strict=True))
    console.print(f"latency at batch {batch_size}: {rounds} rounds, about {duration(expected)}")
    seconds = np.array(
        [[timer.timeit(repeat).mean for timer, repeat in zip(timers, repeats, strict=True)] for _ in range(rounds)]
    )  # (rounds, candidates)
    ratios = seconds / seconds[:, [reference]]
    quartiles = (25, 50, 75)
    return [
        Latency(seconds=tuple(np.percentile(times, quartiles)), ratio=tuple(np.percentile(ratio, quartiles)))
        for times, ratio in zip(seconds.T, ratios.T, strict=True)
    ]


@torch.inference_mode()
def _infer(network: Network, images: torch.Tensor) -> None:
    network(images)
