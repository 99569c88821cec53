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

from benchmarks.measuring.rounds import conditions, interleaved
from benchmarks.speed.ratios import ratio
from compress.console import console
from compress.data import Normalisation, normalise
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
        batches: the images as it takes them.
        cuts: the network cut at every exit, shallow to deep.
        early: early exit by the policy; what it returns has `exits`.
        idle: early exit by which no image leaves.
    """

    batches: Sequence[Any]
    cuts: Sequence[Answer]
    early: Answer
    idle: Answer


@dataclass(frozen=True, kw_only=True)
class ExitSetup:
    """What is measured, and how often.

    Attributes:
        images: number of images answered in one timing, in batches; at least those of one batch are.
    """

    arch: str = "resnet44"
    exits: int = 5
    batch_sizes: tuple[int, ...] = (1, 128)
    images: int = 10
    rounds: int = 9
    threads: int = 1

    @cached_property
    def network(self) -> Network:
        """A network with random weights, channels last; its time does not depend on them."""
        torch.manual_seed(0)
        return create(self.arch, exits=self.exits).eval().to(memory_format=torch.channels_last)


def measure_exits(setup: ExitSetup) -> dict[str, Any]:
    """The ratios by engine and batch size, and `environment`."""
    results: dict[str, Any] = {}
    with conditions(setup.threads):
        for engine, served in ENGINES.items():
            for size in setup.batch_sizes:
                images = torch.randint(256, (max(size, setup.images), 3, 32, 32), dtype=torch.uint8)
                with served(setup, images.split(size)) as ready:
                    row = results.setdefault(engine, {})[str(size)] = _ratios(setup, ready)
                found = ", ".join(f"{key} {value['ratio']:.3f}" for key, value in row.items() if key != "macs")
                console.print(f"{engine}, batch {size}: macs {row['macs']:.3f}, {found}")
        return results | {"environment": describe(CPU) | dataclasses.asdict(setup)}


def _ratios(setup: ExitSetup, served: Served) -> dict[str, Any]:
    """The ratios of one engine at one batch size."""
    calls = [partial(_answer, answer, served.batches) for answer in (*served.cuts, served.early, served.idle)]
    found, _ = interleaved(calls, rounds=setup.rounds, device=CPU)
    *cuts, early, idle = found.T
    exits = np.concatenate([np.asarray(served.early(batch).exits) for batch in served.batches])
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


def _policies(network: Network, images: torch.Tensor) -> tuple[Policy, Policy]:
    """The policy by which as many of these normalised images leave at every exit, and one by which none does."""
    with torch.inference_mode():
        logits = torch.stack(network(images)).numpy()
    exits = len(logits)
    idle = Policy(
        temperatures=tuple(float(exit.std()) for exit in logits),  # else all confidences of random weights are 1
        thresholds=(NEVER,) * (exits - 1),
        weights=digest_of_weights(network),
    )
    return policy_of_shares(idle, np.full(exits, 1 / exits), logits), idle


def _normalised(images: torch.Tensor) -> torch.Tensor:
    return normalise(images, NORMALISATION).contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def _eager(setup: ExitSetup, images: Sequence[torch.Tensor]) -> Iterator[Served]:
    """Eager in fp32, channels last."""
    network, batches = setup.network, [_normalised(batch) for batch in images]
    policies = _policies(network, torch.cat(batches))
    cuts = [torch.inference_mode()(cut(network, exit)) for exit in range(1, setup.exits + 1)]
    yield Served(batches, cuts, *(EarlyExit(network, policy) for policy in policies))


ENGINES: dict[str, Callable[[ExitSetup, Sequence[torch.Tensor]], Any]] = {"eager": _eager}
