"""The graph of a study: a node a run, every one after those that it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report.trials import Factors
from benchmarks.study.entry import StudyRun, Target, entry_and_exit
from benchmarks.study.study import Study
from benchmarks.study.tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class Node:
    """One run of a study.

    Attributes:
        factors: on the recipe's rate and decay; None: those of the best of its entry's trials.
        trial: whether it is one of these; the best one stands for its entry's run of that budget and seed.
    """

    entry: StudyRun
    target: Target | None
    seed: int
    factors: Factors | None
    trial: bool = False

    def __str__(self) -> str:
        """As in ``l1 at speedup 2.5, seed 0, rate x0.3``."""
        name = self.entry.name if self.target is None else f"{self.entry.name} at {self.target}"
        tried = [] if self.factors in (None, Factors()) else [str(self.factors)]
        return ", ".join([name, f"seed {self.seed}", *tried])

    @property
    def parents(self) -> list[str]:
        """Names of the entries that it starts from or is matched with."""
        matched = self.target.value if self.target and self.target.option == "match" else None
        return [entry_and_exit(str(name))[0] for name in (self.entry.from_, matched) if name is not None]


def graph(study: Study) -> tuple[Node, ...]:
    """All runs of a study, seed by seed, in the order of its entries, trials first."""
    nodes: list[Node] = []
    for seed in study.seeds:
        for entry in study.runs:
            tuning = study.tuning if study.tuning and study.tuning.includes(entry) else None
            trials = _trials(entry, seed, tuning) if tuning and seed == study.seeds[0] else []
            tried = [trial.target for trial in trials]
            factors = None if tuning else Factors()
            nodes += trials
            nodes += [
                Node(entry=entry, target=target, seed=seed, factors=factors)
                for target in entry.targets
                if target not in tried
            ]
    return tuple(nodes)


def _trials(entry: StudyRun, seed: int, tuning: Tuning) -> list[Node]:
    target = tuning.target(entry)
    return [Node(entry=entry, target=target, seed=seed, factors=factors, trial=True) for factors in tuning.factors]
