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
    """All runs of a study, in the order in which they are made: an entry's trials stand before its other runs.

    First come those that its claims need, seed by seed, then all others, seed by seed: wherever the study stops, as
    many seeds as can be had decide what it was made for. Entries keep the order of the file.
    """
    needed = _needed(study)
    nodes: list[Node] = []
    for entries in (needed, tuple(entry for entry in study.runs if entry not in needed)):
        for seed in study.seeds:
            for entry in entries:
                nodes += _runs(study, entry, seed)
    return tuple(nodes)


def _needed(study: Study) -> tuple[Entry, ...]:
    """The entries that the claims name, those that these name, and the study's reference; none without claims."""
    named = {name for claim in study.claims for name in claim.networks}
    named |= {study.reference} if named else set()
    for entry in reversed(study.runs):  # what an entry names stands above it
        if entry.name in named:
            named |= {source.name for _, source in entry.sources}
    return tuple(entry for entry in study.runs if entry.name in named)


def _runs(study: Study, entry: Entry, seed: int) -> list[Node]:
    """The runs of one entry and seed: at the first seed with trials, where the study tunes the entry."""
    tuning = study.tuning if study.tuning and study.tuning.includes(entry) else None
    tried = [tuning.target(entry)] if tuning and seed == study.seeds[0] else []
    trials = [
        Node(entry=entry, target=target, seed=seed, factors=factors, trial=True)
        for factors in (tuning.factors if tuning else ())
        for target in tried
    ]
    usual = None if tuning else Factors()
    return trials + [
        Node(entry=entry, target=target, seed=seed, factors=usual) for target in entry.targets if target not in tried
    ]
