"""Time of early exit against the whole network and every exit as a static network, timed in turn on the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.certifying.exit_logits import placed
from benchmarks.certifying.exits_file import Measured, Timing
from benchmarks.measuring.engines.pytorch import DTYPES
from benchmarks.measuring.rounds import NOISY, Call, conditions, interleaved, median_interval, quartiles
from compress.data import Normalisation, Part, normalise
from compress.export.bundle import MANIFEST
from compress.export.cascade import write_policy, write_stage_digests, write_stages
from compress.export.early_exit_runner import Cascade
from compress.hardware import describe, repeatable
from compress.inference import EarlyExit, Policy, leaving_macs, mean_macs
from compress.inference.policy import NEVER
from compress.networks import Network, cut

ROUNDS = 9
TIMED = {1: 64, 128: 128}  # images timed, by batch size
Answer = Callable[[Any], Any]  # a batch to `Exited` or the like


@dataclass(frozen=True, kw_only=True)
class ServedExits:
    """A network and a policy, and what runs them; `compact` is that of `EarlyExit`, for eager."""

    network: Network
    normalisation: Normalisation
    policy: Policy
    engine: str
    precision: str
    device: torch.device
    threads: int = 1
    compact: bool | int = True

    def opened(self, policy: Policy, folder: Path) -> Answer:
        """Early exit by a policy, as the engine serves it: a function of what `batches` has.

        Runtimes run stages of the network, written into the folder at the first call.
        """
        if self.engine == "eager":
            there = placed(self.network, self.device)
            return EarlyExit(there, policy, compact=self.compact, dtype=DTYPES[self.precision])
        return self._cascade(policy, folder)

    def batches(self, images: Tensor, size: int) -> list[Any]:
        """uint8 images `(N, C, H, W)` in batches, as `opened` takes them."""
        if self.engine != "eager":
            return [batch.numpy() for batch in images.split(size)]
        ready = normalise(images, self.normalisation).to(self.device, DTYPES[self.precision])
        return list(ready.contiguous(memory_format=torch.channels_last).split(size))

    def statics(self, folder: Path) -> list[Answer]:
        """Every exit as a network of its own, with one head and no decisions: functions of what `batches` has.

        Runtimes run each as a cascade of one stage, so that the same is done to the images.
        """
        networks = [cut(self.network, exit) for exit in range(1, len(self.network.spec.exits) + 1)]
        if self.engine == "eager":
            there = [placed(network, self.device).to(DTYPES[self.precision]) for network in networks]
            return [_read(repeatable(self.device)(torch.inference_mode()(each.eval()))) for each in there]
        alone = Policy(temperatures=(1.0,), thresholds=(), weights=self.policy.weights)
        return [
            replace(self, network=network)._cascade(alone, folder / f"exit{exit}").logits
            for exit, network in enumerate(networks, start=1)
        ]

    def _cascade(self, policy: Policy, folder: Path) -> Cascade:
        """Stages of the network, run by a runtime."""
        folder.mkdir(exist_ok=True)
        if not any(folder.glob("stage*")):
            write_stages(self.network, self.normalisation, folder)
        write_policy(folder, policy, None, engine=self.engine, input="uint8")
        (folder / MANIFEST).unlink(missing_ok=True)
        write_stage_digests(folder, format="onnx", input="uint8")
        return Cascade(folder, engine=self.engine, threads=self.threads)


def _read(network: Answer) -> Answer:
    """A network that is waited for, as early exit is, which reads labels: a GPU would take the next batch meanwhile."""
    return lambda batch: [logits.cpu() for logits in network(batch)]


def passes(answer: Answer, batches: Sequence[Any]) -> Call:
    """A call that answers all batches, to be timed."""

    def answer_all() -> None:
        for batch in batches:
            answer(batch)

    return answer_all


def measure_time(serving: ServedExits, test: Part, *, rounds: int = ROUNDS) -> Measured:
    """Measure early exit on randomly drawn test images, one at a time and in batches of 128.

    Raises:
        UsageError: the engine cannot run the network.
    """
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(test)))
    rows, noise = [], 0.0
    with conditions(serving.threads), TemporaryDirectory() as folder:
        for size, count in TIMED.items():
            size, count = min(size, len(test)), min(count, len(test))
            [images] = test.subset(order[:count]).batches([torch.arange(count)])
            row, found = _measure(serving, images.cpu(), size, rounds, Path(folder))
            rows.append(row)
            noise = max(noise, found)
        machine = describe(serving.device)
    return Measured(
        device=str(serving.device),
        hardware=str(machine["gpu"] or machine["cpu"]),
        threads=serving.threads,
        rounds=rounds,
        noisy=noise > NOISY,
        rows=rows,
    )


def _measure(serving: ServedExits, images: Tensor, size: int, rounds: int, folder: Path) -> tuple[Timing, float]:
    """The times at one batch size, and the noise: the interquartile range of the whole network's ratio to itself."""
    never = replace(serving.policy, thresholds=(NEVER,) * len(serving.policy.thresholds))
    batches = serving.batches(images, size)
    early, idle = (serving.opened(policy, folder / "cascade") for policy in (serving.policy, never))
    statics = [passes(static, batches) for static in serving.statics(folder)]
    exits = np.concatenate([np.asarray(early(batch).exits) for batch in batches])
    seconds, _ = interleaved(
        [passes(early, batches), passes(idle, batches), *statics, statics[-1]],
        rounds=rounds,
        device=serving.device,
        what=f"time of early exit, {serving.engine} {serving.precision}, batch {size}",
    )
    ratios = seconds / seconds[:, [-2]]
    return _timing(seconds / len(images), ratios, exits, serving, size), float(
        np.subtract(*quartiles(ratios[:, -1])[::-2])
    )


def _timing(
    seconds: NDArray[np.float64], ratios: NDArray[np.float64], exits: NDArray[np.int64], serving: ServedExits, size: int
) -> Timing:
    """The row of a batch size; columns are early exit, the same without leaving, every exit, and the last again."""
    return Timing(
        batch_size=size,
        images=len(exits),
        mean_macs=mean_macs(exits, leaving_macs(serving.network)),
        seconds=quartiles(seconds[:, 0]),
        ratio=quartiles(ratios[:, 0]),
        ratio_interval=median_interval(ratios[:, 0]),
        idle_ratio=quartiles(ratios[:, 1]),
        static_seconds=[quartiles(column) for column in seconds[:, 2:-1].T],
        static_ratios=[quartiles(column) for column in ratios[:, 2:-1].T],
    )
