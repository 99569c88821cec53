"""The ledger of a study: what came of its runs so far, and with that what the others start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from baselines import Budget, Job, finished_run
from benchmarks.report.trials import Factors, Trial, best
from benchmarks.results.series import distinct_runs
from benchmarks.study.entry import StudyRun, Target, entry_and_exit
from benchmarks.study.graph import Node, graph
from benchmarks.study.setting import Setting
from compress.errors import UsageError
from compress.runs import Run, finished_runs
from compress.training import Plan, is_reference
from compress.training.methods import FROZEN


@dataclass(kw_only=True)
class Ledger:
    """How far a study is.

    Attributes:
        outcomes: the run of every node that was made or found finished; None where it could not be made.
    """

    setting: Setting
    outcomes: dict[Node, Run | None] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All runs of the study: see `graph`."""
        return graph(self.setting.study)

    @property
    def left(self) -> list[Node]:
        """The nodes without an outcome."""
        return [node for node in self.nodes if node not in self.outcomes]

    @property
    def ready(self) -> list[Node]:
        """Those of them that wait for nothing."""
        return [node for node in self.left if not self.waits_for(node)]

    @property
    def trials(self) -> list[Trial]:
        """All trials, an arm's together, in their order."""
        return [self._trial(node) for node in self.nodes if node.trial]

    @property
    def reported(self) -> list[Run]:
        """The finished runs, losing trials left out, each once, the reference first."""
        study = self.setting.study
        reference = self._first(self.entry(study.reference), study.seeds[0])
        every = [
            self.run(entry, target, seed) for seed in study.seeds for entry in study.runs for target in entry.targets
        ]
        return list({run.id: run for run in (reference, *every) if run}.values())

    @property
    def primary(self) -> tuple[str, str] | None:
        """Ids of a run each of the primary contrast's two entries; None where none is declared, or one did not run."""
        study = self.setting.study
        found = [[self._first(self.entry(name), seed) for seed in study.seeds] for name in study.primary]
        ids = [run.id for runs in found for run in list(filter(None, runs))[:1]]
        return (ids[0], ids[1]) if len(ids) == 2 else None

    @property
    def lost(self) -> bool:
        """Whether the study's reference has come out as nothing."""
        entry, seed = self.entry(self.setting.study.reference), self.setting.study.seeds[0]
        return not self._open(self._of(entry, seed)) and self._first(entry, seed) is None

    def entry(self, name: str) -> StudyRun:
        """The entry of that name."""
        return next(entry for entry in self.setting.study.runs if entry.name == name)

    def run(self, entry: StudyRun, target: Target | None, seed: int) -> Run | None:
        """The finished run of an entry; where it was tuned the best trial's; None where there is none."""
        own = [node for node in self._of(entry, seed) if node.target == target]
        if own and own[0].trial:
            winner = best([self._trial(node) for node in own])
            return next(self.outcomes[node] for node in own if node.factors == winner.factors) if winner else None
        return self.outcomes.get(own[0]) if own else None

    def waits_for(self, node: Node) -> list[str]:
        """What has to come out before this node can begin, in words; it can where that is nothing."""
        parents = [self.entry(name) for name in node.parents]
        if node.target and node.entry.from_ is None and (plain := self.setting.plain(node.entry)):
            parents.append(plain)
        waits = [entry.name for entry in parents if self._open(self._of(entry, node.seed))]
        if node.factors is None and self._open(self._tries(node.entry)):
            waits.append(f"trials of {node.entry.name}")
        return list(dict.fromkeys(waits))

    def factors(self, node: Node) -> Factors:
        """What the node's rate and decay are multiplied by.

        Raises:
            UsageError: the best trial would tell, and none finished.
        """
        if node.factors is not None:
            return node.factors
        winner = best([self._trial(trial) for trial in self._tries(node.entry)])
        if winner is None:
            raise UsageError("none of its trials finished")
        return winner.factors

    def job(self, node: Node) -> Job:
        """What a node that prunes does, now that what it waits for is there.

        Raises:
            UsageError: what it starts from, or is matched with, or all its trials, could not be made.
        """
        assert node.target
        factors = self.factors(node)
        budget, reference = self._budget(node.target, node.seed), self._reference(node.entry, node.seed)
        return self.setting.job(node, budget, factors, reference)

    def find(self) -> None:
        """Enter every run that is finished, as far as what it starts from is."""
        found = finished_runs(self.setting.runs)[0]
        counted = {run.id for run in distinct_runs(found)[0]}
        found.sort(key=lambda run: run.id not in counted)  # a copy is no other run, but may be another's parent
        for node in self.left:
            if not self.waits_for(node) and (run := self._found(node, found)):
                self.outcomes[node] = run

    def _found(self, node: Node, runs: Sequence[Run]) -> Run | None:
        try:
            if node.target:
                return finished_run(self._job_to_find(node), runs)
            plan = self.setting.plan(node, self.factors(node))
        except UsageError:  # said when it is made
            return None
        wanted = _without_trunk(plan.config)
        same = [run for run in runs if _without_trunk(run.record.config) == wanted]
        return next((run for run in same if _trunk_fits(run, plan, runs)), None)

    def _job_to_find(self, node: Node) -> Job:
        """The job, with the reference that it would look for named, where the study has one."""
        job = self.job(node)
        plain = self.setting.plain(node.entry) if job.reference is None else None
        run = self._first(plain, node.seed) if plain else None
        return dataclasses.replace(job, reference=run.path) if run else job

    def _budget(self, target: Target, seed: int) -> Budget:
        if not isinstance(target.value, str):
            return Budget(**{target.option: target.value})
        run, exit = self._earlier(target.value, seed)
        return Budget(macs=run.exits[-1 if exit is None else exit - 1]["macs"])

    def _reference(self, entry: StudyRun, seed: int) -> str | None:
        if entry.from_ is None:
            return None
        run, exit = self._earlier(entry.from_, seed)
        return str(run.path) if exit is None else f"{run.path}:{exit}"

    def _earlier(self, reference: str, seed: int) -> tuple[Run, int | None]:
        """The run that an entry's `from` or `match` names, and its exit if one is named."""
        name, exit = entry_and_exit(reference)
        run = self._first(self.entry(name), seed)
        if run is None:
            raise UsageError(f"{name} did not run")
        if exit is not None and exit > len(run.exits):
            raise UsageError(f"{reference}: {name} has {len(run.exits)} exit(s)")
        return run, exit

    def _first(self, entry: StudyRun, seed: int) -> Run | None:
        """The run of an entry's first budget, or its only one."""
        return self.run(entry, entry.targets[0], seed)

    def _of(self, entry: StudyRun, seed: int) -> list[Node]:
        return [node for node in self.nodes if (node.entry, node.seed) == (entry, seed)]

    def _tries(self, entry: StudyRun) -> list[Node]:
        return [node for node in self.nodes if node.trial and node.entry == entry]

    def _open(self, nodes: Sequence[Node]) -> bool:
        return any(node not in self.outcomes for node in nodes)

    def _trial(self, node: Node) -> Trial:
        assert node.factors
        return Trial.of(
            node.entry.name, str(node.target) if node.target else None, node.factors, self.outcomes.get(node)
        )


def _without_trunk(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration but for the run that a frozen trunk is of: see `_trunk_fits`."""
    return {key: value for key, value in config.items() if key not in ("parent", "reference")}


def _trunk_fits(run: Run, plan: Plan, runs: Sequence[Run]) -> bool:
    """Whether the run's trunk, where it is another run's, is of one that the plan would look for or train."""
    parent = run.record.parent
    if plan.method != FROZEN:
        return parent is None
    plain = dataclasses.replace(plan.spec, exits=plan.spec.exits[-1:])
    wanted = (plain, plan.dataset, plan.recipe, plan.seed)
    return any(is_reference(other, *wanted) for other in runs if other.id == parent)
