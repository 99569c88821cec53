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

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.certifying.exit_timing import Answer, ServedExits, passes
from benchmarks.measuring.rounds import conditions, interleaved
from benchmarks.speed.ratios import ratio
from compress.console import console
from compress.data import Normalisation, normalise
from compress.hardware import describe
from compress.inference import Policy, leaving_macs, mean_macs, policy_of_shares
from compress.inference.policy import NEVER
from compress.network_cost import exit_costs
from compress.networks import Network, create, digest_of_weights

CPU = torch.device("cpu")
NORMALISATION = Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)


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
            images = normalise(self.images, NORMALISATION).contiguous(memory_format=torch.channels_last)
            logits = torch.stack(self.network(images)).numpy()
        idle = Policy(
            temperatures=tuple(float(exit.std()) for exit in logits),  # else all confidences of random weights are 1
            thresholds=(NEVER,) * (self.exits - 1),
            weights=digest_of_weights(self.network),
        )
        return policy_of_shares(idle, np.full(self.exits, 1 / self.exits), logits), idle

    def serving(self, engine: str) -> ServedExits:
        """What an engine runs: in fp32, eager channels last, runtimes from uint8 images on."""
        return ServedExits(
            network=self.network,
            normalisation=NORMALISATION,
            policy=self.policies[0],
            engine=engine,
            precision="fp32",
            device=CPU,
            threads=self.threads,
        )


def measure_exits(setup: ExitSetup) -> dict[str, Any]:
    """The ratios by engine and batch size, and `environment`."""
    results: dict[str, Any] = {engine: {} for engine in setup.engines}
    with conditions(setup.threads), tempfile.TemporaryDirectory() as name:
        for engine in setup.engines:
            serving, folder = setup.serving(engine), Path(name) / engine
            folder.mkdir()
            early, idle = (serving.opened(policy, folder / "cascade") for policy in setup.policies)
            statics = serving.statics(folder)
            for size in setup.batch_sizes:
                batches = serving.batches(setup.images[: max(size, setup.least)], size)
                row = results[engine][str(size)] = _ratios(setup, batches, early, idle, statics)
                found = ", ".join(f"{key} {value['ratio']:.3f}" for key, value in row.items() if key != "macs")
                console.print(f"{engine}, batch {size}: macs {row['macs']:.3f}, {found}")
        return results | {"environment": describe(CPU) | dataclasses.asdict(setup)}


def _ratios(
    setup: ExitSetup, batches: Sequence[Any], early: Answer, idle: Answer, statics: Sequence[Answer]
) -> dict[str, Any]:
    """The ratios of one engine on batches of one size."""
    calls = [passes(answer, batches) for answer in (*statics, early, idle)]
    found, _ = interleaved(calls, rounds=setup.rounds, device=CPU)
    *cuts, leaving, staying = found.T
    exits = np.concatenate([np.asarray(early(batch).exits) for batch in batches])
    shares = np.bincount(exits - 1, minlength=setup.exits) / len(exits)
    macs = mean_macs(exits, leaving_macs(setup.network)) / exit_costs(setup.network)[-1].macs
    return {
        "macs": macs,
        "time": ratio(leaving, cuts[-1]),
        "time_over_macs": ratio(leaving, macs * cuts[-1]),
        "floor": ratio(shares @ cuts, cuts[-1]),
        "idle": ratio(staying, cuts[-1]),
    }
