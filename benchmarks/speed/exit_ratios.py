"""Early exit: does its time follow its MACs? Ratios for an engine and a batch size, timed in turn.

As many of the images, which are noise, leave at every exit. "The whole network" is the network cut at its last exit:
one head, no decisions; it is what would be used instead.

- macs: mean MACs of leaving / MACs of the whole network; a count.
- time: early exit / the whole network.
- time_over_macs: the former over `macs`; 1 where time follows MACs, at most 1.15 is the goal.
- floor: the networks cut where the images leave / the whole network: decisions and compaction for nothing. What it is
  above `macs` lies in the network, whose early blocks have few channels and large maps, and take more time a MAC.
- idle: early exit by which no image leaves / the whole network; at most 1.05 is the goal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring.rounds import conditions, interleaved
from benchmarks.speed.ratios import ratio
from compress.console import console
from compress.data import Normalisation, normalise
from compress.export.cascade import opened_cascade
from compress.export.early_exit_runner import Cascade
from compress.hardware import describe
from compress.inference import EarlyExit, Policy, leaving_macs, mean_macs, policy_of_shares
from compress.inference.policy import NEVER
from compress.network_cost import exit_costs
from compress.networks import Network, create, cut, digest_of_weights

CPU = torch.device("cpu")
NORMALISATION = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)
Answer = Callable[[Any], Any]


class Served(NamedTuple):
    """What an engine runs.

    Attributes:
        take: turns uint8 images `(N, 3, H, W)` into what the others take.
        cuts: the network cut at every exit, shallow to deep.
        early: early exit by the policy; what it returns has `exits`.
        idle: early exit by which no image leaves.
    """

    take: Answer
    cuts: Sequence[Answer]
    early: Answer
    idle: Answer


@dataclass(frozen=True, kw_only=True)
class ExitSetup:
    """What is measured, and how often.

    Attributes:
        least: number of images that are answered in one timing at the least, in batches.
    """

    arch: str = "resnet44"
    exits: int = 5
    engines: tuple[str, ...] = ("eager", "onnxruntime")
    batch_sizes: tuple[int, ...] = (1, 128)
    least: int = 20
    rounds: int = 9
    threads: int = 1

    @cached_property
    def network(self) -> Network:
        """A network with random weights, channels last; its time does not depend on them."""
        torch.manual_seed(0)
        return create(self.arch, exits=self.exits).eval().to(memory_format=torch.channels_last)

    @cached_property
    def images(self) -> Tensor:
        """Noise in the shape of CIFAR's images."""
        generator = torch.Generator().manual_seed(0)
        count = max(self.least, *self.batch_sizes)
        return torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)

    @cached_property
    def policies(self) -> tuple[Policy, Policy]:
        """The policy by which as many of the images leave at every exit, and one by which none leaves early."""
        with torch.inference_mode():
            logits = torch.stack(self.network(_normalised(self.images))).numpy()
        idle = Policy(
            temperatures=tuple(float(exit.std()) for exit in logits),  # else all confidences of random weights are 1
            thresholds=(NEVER,) * (self.exits - 1),
            weights=digest_of_weights(self.network),
        )
        return policy_of_shares(idle, np.full(self.exits, 1 / self.exits), logits), idle


def measure_exits(setup: ExitSetup) -> dict[str, Any]:
    """The ratios by engine and batch size, and `environment`."""
    results: dict[str, Any] = {engine: {} for engine in setup.engines}
    with conditions(setup.threads):
        for engine in setup.engines:
            with ENGINES[engine](setup) as served:
                for size in setup.batch_sizes:
                    row = results[engine][str(size)] = _ratios(setup, served, size)
                    found = ", ".join(f"{key} {value['ratio']:.3f}" for key, value in row.items() if key != "macs")
                    console.print(f"{engine}, batch {size}: macs {row['macs']:.3f}, {found}")
        return results | {"environment": describe(CPU) | dataclasses.asdict(setup)}


def _ratios(setup: ExitSetup, served: Served, size: int) -> dict[str, Any]:
    """The ratios of one engine at one batch size."""
    batches = [served.take(batch) for batch in setup.images[: max(size, setup.least)].split(size)]
    calls = [partial(_answer, answer, batches) for answer in (*served.cuts, served.early, served.idle)]
    found, _ = interleaved(calls, rounds=setup.rounds, device=CPU)
    *cuts, early, idle = found.T
    exits = np.concatenate([np.asarray(served.early(batch).exits) for batch in batches])
    shares = np.bincount(exits - 1, minlength=setup.exits) / len(exits)
    macs = mean_macs(exits, leaving_macs(setup.network)) / exit_costs(setup.network)[-1].macs
    return {
        "macs": macs,
        "time": ratio(early, cuts[-1]),
        "time_over_macs": ratio(early, macs * cuts[-1]),
        "floor": ratio(shares @ cuts, cuts[-1]),
        "idle": ratio(idle, cuts[-1]),
    }


def _answer(answer: Answer, batches: Sequence[Any]) -> None:
    for batch in batches:
        answer(batch)


def _normalised(images: Tensor) -> Tensor:
    return normalise(images, NORMALISATION).contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def _eager(setup: ExitSetup) -> Iterator[Served]:
    """Eager in fp32, channels last."""
    network = setup.network
    cuts = [torch.inference_mode()(cut(network, exit)) for exit in range(1, setup.exits + 1)]
    yield Served(_normalised, cuts, *(EarlyExit(network, policy) for policy in setup.policies))


@contextlib.contextmanager
def _onnxruntime(setup: ExitSetup) -> Iterator[Served]:
    """Cascades in ONNX Runtime, fp32, from uint8 images on; a cut network is a cascade of one stage."""
    network = setup.network
    with contextlib.ExitStack() as stack:

        def opened(network: Network, policy: Policy | None = None) -> Cascade:
            made = opened_cascade(network, NORMALISATION, engine="onnxruntime", threads=setup.threads, policy=policy)
            return stack.enter_context(made)

        cuts = [opened(cut(network, exit)).logits for exit in range(1, setup.exits + 1)]
        yield Served(Tensor.numpy, cuts, *(opened(network, policy) for policy in setup.policies))


ENGINES: dict[str, Callable[[ExitSetup], contextlib.AbstractContextManager[Served]]] = {
    "eager": _eager,
    "onnxruntime": _onnxruntime,
}
