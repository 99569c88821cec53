"""Outcomes: which runs of a study are finished or failed, which can begin, and what those start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from baselines import Budget, Job, finished_run
from benchmarks.measuring.latency import latency_ratio
from benchmarks.report.best_trial import Factors, Trial, best
from benchmarks.report.comparison import Screen
from benchmarks.results.claims import Claim, with_exit
from benchmarks.results.repeated_runs import distinct_runs
from benchmarks.study.entry import Entry, Match, Pruned, Source, Target, Trained
from benchmarks.study.graph import Node, graph
from benchmarks.study.setting import Setting
from benchmarks.study.tuning_grid import untuned_rate
from compress.ensemble_exit import whole_and_exit
from compress.errors import UsageError
from compress.runs import Run, finished_runs
from compress.training import is_reference, plan_of
from compress.training.methods import FROZEN


@dataclass(kw_only=True)
class Outcomes:
    """How far a study is.

    Attributes:
        runs: the run of every node that was made or found finished; None where it could not be made.
    """

    setting: Setting
    runs: dict[Node, Run | None] = field(default_factory=dict)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All runs of the study, in the order of `graph`."""
        return graph(self.setting.study)

    @property
    def left(self) -> list[Node]:
        """The nodes that have no outcome yet."""
        return [node for node in self.nodes if node not in self.runs]

    @property
    def ready(self) -> list[Node]:
        """The nodes without an outcome that wait for nothing."""
        return [node for node in self.left if not self.waits_for(node)]

    @property
    def trials(self) -> list[Trial]:
        """All trials, those of an entry together, in the order of their factors."""
        return [self._trial(node) for node in self.nodes if node.trial]

    @property
    def reported(self) -> list[Run]:
        """The finished runs without the trials that lost, each once, the reference first."""
        study = self.setting.study
        every = [
            self.run(entry, target, seed) for seed in study.seeds for entry in study.runs for target in entry.targets
        ]
        return list({run.id: run for run in (self.reference, *every) if run}.values())

    @property
    def reference(self) -> Run | None:
        """The run of the study's reference for its first seed, if there is one."""
        return self._first(self.setting.study.reference, self.setting.study.seeds[0])

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The study's claims, of the id of one run of each entry; an entry without a run keeps its name."""
        study = self.setting.study
        ids = {
            name: next((run.id for seed in study.seeds if (run := self._first(name, seed))), name)
            for claim in study.claims
            for name in claim.networks
        }

        def of_run(name: str) -> str:
            network, exit = whole_and_exit(name)
            return with_exit(ids[network], exit)

        return tuple(claim.renamed(of_run) for claim in study.claims)

    @property
    def untestable(self) -> list[Claim]:
        """The study's claims of which some entry has no run."""
        pairs = zip(self.setting.study.claims, self.claims, strict=True)
        return [declared for declared, found in pairs if {*declared.networks} & {*found.networks}]

    @property
    def screen(self) -> Screen | None:
        """The levels of the factors of every run that was made; None where the study screens none."""
        study = self.setting.study
        if study.factorial is None:
            return None
        own = study.factorial.levels
        made = {(run.id, name) for name in own for seed in study.seeds if (run := self._first(name, seed))}
        return Screen(
            factors=study.factorial.names,
            low=study.factorial.low,
            high=study.factorial.high,
            levels={id: own[name] for id, name in sorted(made)},
            runs=len(own) * len(study.seeds),
        )

    @property
    def lost(self) -> bool:
        """Whether the study's reference could not be made."""
        study = self.setting.study
        return not self._open(study.reference, study.seeds[0]) and self.reference is None

    def run(self, entry: Entry, target: Target | None, seed: int) -> Run | None:
        """The finished run of an entry, of the best trial where it was tuned; None where there is none."""
        own = [node for node in self.nodes if (node.entry, node.target, node.seed) == (entry, target, seed)]
        factors = self._best_factors(entry) if own[0].trial else own[0].factors
        return next((self.runs.get(node) for node in own if node.factors == factors), None)

    def waits_for(self, node: Node) -> list[str]:
        """Names of what must have an outcome before the node can begin; empty if it can begin."""
        waits = [name for name, seed in self._sources(node) if self._open(name, seed)]
        if node.factors is None and any(trial not in self.runs for trial in self._trials_of(node.entry)):
            waits.append(f"trials of {node.entry.name}")
        return list(dict.fromkeys(waits))

    def behind(self, node: Node) -> list[Node]:
        """All nodes whose outcomes a node is made from, whether they have one or not; see `waits_for`."""
        sources = self._sources(node)
        found = [other for other in self.nodes if (other.entry.name, other.seed) in sources]
        return found + (self._trials_of(node.entry) if node.factors is None else [])

    def _sources(self, node: Node) -> list[tuple[str, int]]:
        """Names of the entries whose runs a node is made from, each with the seed of the run."""
        entry, setting = node.entry, self.setting
        source = setting.trunk(entry) if isinstance(entry, Trained) else setting.source(entry)
        sources = [(source.name, node.seed)] if source else []
        return sources + ([self._matched(node.target, node.seed)] if isinstance(node.target, Match) else [])

    def _matched(self, match: Match, seed: int) -> tuple[str, int]:
        """The name of the entry whose MACs are a budget, and the seed of its run: of a pruned one the first.

        The MACs of a pruned network differ from seed to seed, and what is asked for is to be one network for all seeds.
        """
        study, name = self.setting.study, match.source.name
        return name, study.seeds[0] if isinstance(study.entry(name), Pruned) else seed

    def factors(self, node: Node) -> Factors:
        """The factors on the learning rate and weight decay of a node.

        Raises:
            UsageError: they are those of the best trial, and no trial finished.
        """
        if node.factors is not None:
            return node.factors
        if (factors := self._best_factors(node.entry)) is None:
            raise UsageError("none of its trials finished")
        return factors

    def training(self, node: Node) -> dict[str, Any]:
        """The arguments of `train` for a node that trains.

        Raises:
            UsageError: see `factors`.
        """
        entry, setting = node.entry, self.setting
        assert isinstance(entry, Trained)
        return {
            "arch": entry.architecture,
            "dataset": setting.dataset,
            "method": entry.method,
            "exits": entry.exits,
            "recipe": self.factors(node).recipe(setting.training_recipe(entry)),
            "seed": node.seed,
            "place": setting.place,
        }

    def job(self, node: Node) -> Job:
        """The job of a node that prunes and waits for nothing.

        Raises:
            UsageError: what it starts from, what it is matched with, or all its trials could not be made.
        """
        entry, budget, reference, setting = node.entry, node.target, None, self.setting
        assert isinstance(entry, Pruned)
        assert budget
        tuned = self.factors(node).options(untuned_rate(entry, setting.recipe), setting.recipe.weight_decay)
        if isinstance(budget, Match):
            run, exit = self._made(budget.source, self._matched(budget, node.seed)[1])
            budget = Budget(macs=run.exits[(exit or 0) - 1]["macs"])
        if source := setting.source(entry):
            run, exit = self._made(source, node.seed)
            reference = f"{run.path}:{exit}" if exit else run.path
        return Job(
            arch=entry.arch,
            dataset=setting.dataset,
            budget=budget,
            technique=entry.technique,
            recipe=setting.fine_tuning_recipe(entry),
            reference=reference,
            fine_tuning=dataclasses.replace(setting.fine_tuning(entry), **tuned),
            seed=node.seed,
            place=setting.place,
            timed=latency_ratio,
        )

    def find(self) -> None:
        """Enter every run that is finished, as far as what it waits for is."""
        found = finished_runs(self.setting.place.runs)[0]
        known = {run.id for run in self.runs.values() if run}
        if all(run.id in known for run in found):
            return  # planning every run of a long study takes seconds, in which a GPU would wait
        counted = {run.id for run in distinct_runs(found)[0]}
        found.sort(key=lambda run: run.id not in counted)  # copies last: a pruned run may name one as its parent
        entered = True
        while entered:  # what one waits for may stand behind it
            entered = False
            for node in self.left:
                if not self.waits_for(node) and (run := self._found(node, found)):
                    self.runs[node], entered = run, True

    def _found(self, node: Node, runs: Sequence[Run]) -> Run | None:
        try:
            if isinstance(node.entry, Pruned):
                return finished_run(self.job(node), runs)
            plan = plan_of(**self.training(node))
        except UsageError:  # is said when the run is to be made
            return None
        plans = [plan]
        if plan.method == FROZEN:  # one plan for every run whose trunk it may freeze
            trunk = dataclasses.replace(plan.spec, exits=plan.spec.exits[-1:])
            trunks = [run for run in runs if is_reference(run, trunk, plan.dataset, plan.recipe, plan.seed)]
            plans = [dataclasses.replace(plan, parent=run) for run in trunks]
        configs = [plan.config for plan in plans]
        return next((run for run in runs if run.record.config in configs), None)

    def _made(self, source: Source, seed: int) -> tuple[Run, int | None]:
        """The run that an entry names, and the exit (1-based) if it names one."""
        run = self._first(source.name, seed)
        if run is None:
            raise UsageError(f"{source.name} did not run")
        if source.exit and source.exit > len(run.exits):
            raise UsageError(f"{source}: {source.name} has {len(run.exits)} exit(s)")
        return run, source.exit

    def _first(self, name: str, seed: int) -> Run | None:
        """The run of an entry's first target, or its only run."""
        entry = self.setting.study.entry(name)
        return self.run(entry, entry.targets[0], seed)

    def _open(self, name: str, seed: int) -> bool:
        """Whether a run of an entry has no outcome yet."""
        return any(node.entry.name == name and node.seed == seed for node in self.left)

    def _trials_of(self, entry: Entry) -> list[Node]:
        return [node for node in self.nodes if node.trial and node.entry == entry]

    def _best_factors(self, entry: Entry) -> Factors | None:
        """The factors of the entry's best trial; None where none finished, or where one has no outcome yet."""
        trials = self._trials_of(entry)
        if any(node not in self.runs for node in trials):
            return None
        winner = best([self._trial(node) for node in trials])
        return winner.factors if winner else None

    def _trial(self, node: Node) -> Trial:
        assert node.factors
        return Trial.of(node.entry.name, str(node.target) if node.target else None, node.factors, self.runs.get(node))
