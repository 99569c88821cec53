"""The setting of a study: what its runs share, and what each asks `train` or `prune` for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines import Budget, FineTuning, Job
from benchmarks.measuring.latency import latency_ratio
from benchmarks.report.trials import Factors
from benchmarks.study.entry import TRAINING, StudyRun
from benchmarks.study.graph import Node
from benchmarks.study.study import Study
from benchmarks.study.tuning import own_rate
from compress.data import Dataset
from compress.errors import UsageError
from compress.hardware import resolve_device
from compress.networks import Spec, code_digest
from compress.recipes import Recipe
from compress.training import Method, Place, Plan, precision_of, spec_to_train
from compress.training.methods import CONTROLS


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A study, and with what, where and how it is made.

    Raises:
        UsageError: there is nothing to tune on.
    """

    study: Study
    dataset: Dataset
    recipe: Recipe
    device: str
    precision: str
    runs: Path
    resume: bool = False

    def __post_init__(self) -> None:
        train, own = len(self.dataset.train), self.dataset.validation
        if self.study.tuning and not own and not round(self.recipe.validation * train):
            raise UsageError(
                f"tuning: of {train:,} training images recipe {self.recipe.name} holds out none to tune on: take more "
                "of them, --recipe quick, or class folders with a val/ of their own"
            )

    def method(self, entry: StudyRun) -> Method:
        """What an entry trains by; where it prunes, what its reference was trained by."""
        return entry.training if entry.command in TRAINING else Method(name="bp")

    def spec(self, entry: StudyRun) -> Spec:
        """Of the network that an entry trains, or by its `arch` prunes."""
        assert entry.arch is not None
        images = {"input_shape": self.dataset.input_shape, "classes": len(self.dataset.classes)}
        return spec_to_train(entry.architecture, self.method(entry), entry.exits, **images)

    def plain(self, pruned: StudyRun) -> StudyRun | None:
        """The earlier entry, if any, that trains the network which one without `from` looks for."""
        for entry in self.study.runs[: self.study.runs.index(pruned)]:
            if entry.command == "train" and self.spec(entry) == self.spec(pruned):
                return entry
        return None

    def training(self, node: Node, factors: Factors) -> dict[str, Any]:
        """What `train` is given for a node that trains."""
        entry = node.entry
        return {
            "arch": entry.architecture,
            "dataset": self.dataset,
            "method": self.method(entry),
            "exits": entry.exits,
            "recipe": factors.recipe(self.recipe),
            "seed": node.seed,
            "place": self._place,
        }

    def plan(self, node: Node, factors: Factors) -> Plan:
        """What `train` makes of that, but for names, and the trunk where that is another run's."""
        spec, method, device = self.spec(node.entry), self.method(node.entry), resolve_device(self.device)
        objective = method.objective(spec)
        return Plan(
            name="",
            kind="control" if method.name in CONTROLS else "train",
            method=method.name,
            objective=objective,
            spec=spec,
            recipe=factors.recipe(self.recipe),
            dataset=self.dataset,
            seed=node.seed,
            precision=precision_of(self.precision, objective, device),
            device=device,
            runs=self.runs,
            command="",
            code=code_digest(spec),
        )

    def job(self, node: Node, budget: Budget, factors: Factors, reference: str | Path | None) -> Job:
        """What a node that prunes asks for, given its budget and reference."""
        return Job(
            arch=node.entry.arch,
            dataset=self.dataset,
            budget=budget,
            technique=node.entry.technique,
            reference=reference,
            recipe=self.recipe,
            fine_tuning=FineTuning(
                schedule=node.entry.schedule,
                **factors.options(own_rate(node.entry, self.recipe), self.recipe.weight_decay),
            ),
            seed=node.seed,
            place=self._place,
            timed=latency_ratio,
        )

    @property
    def _place(self) -> Place:
        return Place(device=self.device, precision=self.precision, runs=self.runs, resume=self.resume)
