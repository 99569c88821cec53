"""The graph of a study: a node for every run, behind those that it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.report.best_trial import Factors
from benchmarks.study.entry import Entry, Target
from benchmarks.study.study import Study


@dataclass(frozen=True, kw_only=True)
class Node:
    """One run of a study.

    Attributes:
        target: the budget of an entry that prunes.
        factors: on the recipe's learning rate and weight decay; None: those of its entry's best trial.
        trial: whether it is one of its entry's trials; the best one stands for the entry's run of that target and seed.
    """

    entry: Entry
    target: Target | None
    seed: int
    factors: Factors | None
    trial: bool = False

    def __str__(self) -> str:
        """As in ``l1 at speedup 2.5, seed 0, rate x0.3``."""
        name = self.entry.name if self.target is None else f"{self.entry.name} at {self.target}"
        tried = [] if self.factors in (None, Factors()) else [str(self.factors)]
        return ", ".join([name, f"seed {self.seed}", *tried])


def graph(study: Study) -> tuple[Node, ...]:
    """All runs of a study: seed by seed, entries in the order of the file, an entry's trials before its other runs."""
    nodes: list[Node] = []
    for seed in study.seeds:
        for entry in study.runs:
            tuning = study.tuning if study.tuning and study.tuning.includes(entry) else None
            tried = [tuning.target(entry)] if tuning and seed == study.seeds[0] else []
            for factors in tuning.factors if tuning else ():
                nodes += [Node(entry=entry, target=target, seed=seed, factors=factors, trial=True) for target in tried]
            nodes += [
                Node(entry=entry, target=target, seed=seed, factors=None if tuning else Factors())
                for target in entry.targets
                if target not in tried
            ]
    return tuple(nodes)
