"""The plan of a study on a cluster, on paper: runs, critical path, GPU hours, bytes that move, losses to failures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from benchmarks.study.entry import Pruned, Source
from benchmarks.study.estimate import epochs, training_macs
from benchmarks.study.graph import Node
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.setting import Setting
from benchmarks.study.simulated_cluster import Machines, Work, critical_path, simulate_cluster
from benchmarks.study.study import Study
from compress.console import duration
from compress.data import Dataset, Labelled
from compress.errors import UsageError, nearest
from compress.network_cost import exit_costs
from compress.networks import Spec, initialised
from compress.recipes import Recipe
from compress.training import Place
from compress.training.checkpoints import SECONDS as CHECKPOINT_SECONDS

# Numbers of training and test images, shape (C, H, W), classes.
SIZES = {
    "fashion-mini": (6_000, 2_000, (1, 28, 28), 10),
    "fashion-mnist": (60_000, 10_000, (1, 28, 28), 10),
    "cifar10": (50_000, 10_000, (3, 32, 32), 10),
    "cifar10-16x16": (50_000, 10_000, (3, 16, 16), 10),
    "cifar100": (50_000, 10_000, (3, 32, 32), 100),
    "svhn": (73_257, 26_032, (3, 32, 32), 10),
    "imagenet": (1_281_167, 50_000, (3, 224, 224), 1_000),
}
STEPS = (1, 2, 5)  # numbers of nodes that are simulated, times powers of ten
NEAR = 1.05  # times the critical path: more nodes gain no more than that
DRAWS = 20  # of failures
LINK = 1.25e9  # bytes a second to and from the object store: 10 Gbit/s, assumed
BYTES = 4  # of a number in fp32


def on_paper(study: Study, recipe: Recipe, like: str | None = None) -> Setting:
    """The setting of a study with black images, as many and as large as its data set has, or as another one.

    Raises:
        UsageError: a data set of unknown size.
    """
    name = like or study.dataset
    if name not in SIZES:
        raise UsageError(f"--like {name}: {nearest(name, SIZES)}")
    train, test, shape, classes = SIZES[name]

    def part(count: int) -> Labelled:
        black = torch.zeros((1, *shape), dtype=torch.uint8).expand(count, *shape)  # takes no memory
        return Labelled(images=black, labels=torch.arange(count) % classes)

    names = tuple(map(str, range(classes)))
    dataset = Dataset(name=name, copy="on paper", classes=names, train=part(train), test=part(test))
    return Setting(study=study, dataset=dataset, recipe=recipe, place=Place())


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """What a study takes on a cluster of nodes with one GPU each.

    Attributes:
        gpu_macs: MACs that a GPU sustains in training, a second: of every network alike.
        between_failures: mean hours between two failures of a node.
    """

    setting: Setting
    nodes: int
    gpu_macs: float = 1e13
    between_failures: float = 1000.0

    @cached_property
    def works(self) -> tuple[Work, ...]:
        """The runs, in the order of the study."""
        outcomes = Outcomes(setting=self.setting)
        position = {node: number for number, node in enumerate(outcomes.nodes)}
        works = []
        for node in outcomes.nodes:
            seconds = training_macs(self.setting, node) / self.gpu_macs
            most = max(int(seconds / CHECKPOINT_SECONDS), 1)  # an epoch that is shorter has none of its own
            behind = tuple(position[other] for other in outcomes.behind(node))
            works.append(Work(seconds=seconds, checkpoints=min(epochs(self.setting, node), most), behind=behind))
        return tuple(works)

    @cached_property
    def traffic(self) -> dict[str, float]:
        """Bytes that move in all: the images to every node that works, checkpoints and results up, parents down."""
        outcomes, dataset = Outcomes(setting=self.setting), self.setting.dataset
        sizes = [_params(self.setting, node) * BYTES for node in outcomes.nodes]
        position = {node: number for number, node in enumerate(outcomes.nodes)}
        images = sum(len(part) * math.prod(dataset.input_shape) for part in dataset.parts.values())
        return {
            "images": float(images * min(self.nodes, len(self.works))),
            "checkpoints": sum(
                size * (work.checkpoints + 1) for size, work in zip(self._checkpoints, self.works, strict=True)
            ),
            "results": float(sum(sizes)),
            "parents": float(sum(sizes[position[other]] for node in outcomes.nodes for other in outcomes.behind(node))),
        }

    @cached_property
    def scaling(self) -> dict[int, float]:
        """The seconds of the study without failures, by the number of nodes."""
        powers = range(len(str(self.nodes)))
        counts = sorted({self.nodes, *(step * 10**power for power in powers for step in STEPS)})
        return {
            count: simulate_cluster(self.works, Machines(nodes=count)).seconds
            for count in counts
            if count <= self.nodes
        }

    def table(self) -> pd.DataFrame:
        """The time, how busy the nodes are, and how near the critical path it is, by the number of nodes."""
        path, work = critical_path(self.works), sum(work.seconds for work in self.works)
        return pd.DataFrame(
            [
                {
                    "nodes": count,
                    "time": duration(seconds),
                    "busy, %": round(100 * work / (count * seconds), 1),
                    "x critical path": round(seconds / path, 2),
                }
                for count, seconds in self.scaling.items()
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data: seconds, bytes, and means over `DRAWS` draws of failures."""
        path = critical_path(self.works)
        near = [count for count, seconds in self.scaling.items() if seconds <= NEAR * path]
        machines = Machines(nodes=self.nodes, between_failures=self.between_failures * 3600)
        drawn = [simulate_cluster(self.works, machines, seed=seed) for seed in range(DRAWS)]
        apart = [work.seconds / max(work.checkpoints, 1) for work in self.works]
        loads = [size / seconds for size, seconds in zip(self._checkpoints, apart, strict=True) if seconds]
        return {
            "runs": len(self.works),
            "nodes": self.nodes,
            "gpu_macs": self.gpu_macs,
            "gpu_seconds": sum(work.seconds for work in self.works),
            "critical_path": path,
            "scaling": {str(count): seconds for count, seconds in self.scaling.items()},
            "saturates_at": near[0] if near else None,
            "bytes": self.traffic,
            "store_bytes_a_second_a_run": fmean(loads) if loads else 0.0,
            "failures": {
                "hours_between": self.between_failures,
                **{
                    name: fmean(getattr(passed, name) for passed in drawn)
                    for name in ("failures", "restarts", "lost", "restarting", "seconds")
                },
                "most_seconds": max(passed.seconds for passed in drawn),
            },
        }

    @cached_property
    def _checkpoints(self) -> list[float]:
        """The bytes of every run's checkpoint, about."""
        copies = 2 + (self.setting.recipe.averaging != "none")  # weights, momentum, average
        nodes = Outcomes(setting=self.setting).nodes
        return [float(_params(self.setting, node) * BYTES * copies) for node in nodes]

    def summary(self) -> str:
        """The plan in words."""
        plan = self.to_json()
        failures, traffic, load = plan["failures"], plan["bytes"], plan["store_bytes_a_second_a_run"]
        saturates = plan["saturates_at"]
        end = f"{saturates} nodes: more gain under {NEAR - 1:.0%}" if saturates else f"more than {self.nodes} nodes"
        moved = ", ".join(f"{name} {value / 1e9:,.1f} GB" for name, value in traffic.items())
        hours = plan["gpu_seconds"] / 3600
        lines = [
            f"{plan['runs']} runs, {hours:,.0f} GPU hours on a GPU that sustains {self.gpu_macs:.0e} MACs a second; "
            f"critical path {duration(plan['critical_path'])}",
            f"saturates at {end}",
            f"bytes that move: {moved}; a run writes {load / 1e6:,.2f} MB a second to the store, so that a link of "
            f"{LINK * 8 / 1e9:g} Gbit/s is full at {LINK / load if load else math.inf:,.0f} runs at once",
            f"with {self.nodes:,} nodes that fail every {self.between_failures:g} hours (mean of {DRAWS} draws): "
            f"{failures['failures']:,.1f} failures, {failures['restarts']:,.1f} of them under a run; lost "
            f"{failures['lost'] / 3600:,.1f} GPU hours since checkpoints ({failures['lost'] / 36 / hours:.3f}%) and "
            f"{failures['restarting'] / 3600:,.1f} of starting again; the study takes {duration(failures['seconds'])}, "
            f"at most {duration(failures['most_seconds'])}, without failures {duration(self.scaling[self.nodes])}",
        ]
        return "\n".join(lines)


def _params(setting: Setting, node: Node) -> int:
    """The parameters of the network that a run begins with: those of its source, where it prunes one."""
    entry = node.entry
    while isinstance(entry, Pruned):
        source: Source | None = setting.source(entry)
        if source is None:
            break
        entry = setting.study.entry(source.name)
    return _spec_params(setting.spec(entry))


@cache
def _spec_params(spec: Spec) -> int:
    return exit_costs(initialised(spec, 0))[-1].params
