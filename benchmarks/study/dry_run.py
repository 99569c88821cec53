"""The plan of a study: which runs are finished, which can begin, which wait for others, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.results.cells import MISSING
from benchmarks.statistics.scores import ENOUGH_SEEDS
from benchmarks.study.estimates import Estimates
from benchmarks.study.graph import Node
from benchmarks.study.progress import Ledger
from benchmarks.study.setting import Setting
from compress.console import console, duration
from compress.runs import Run

GUESS = "a guess, from a few steps timed now and each network's shape"


class Planned(NamedTuple):
    """A run of a study before anything is made.

    Attributes:
        waits_for: what has to come out first; before that it cannot be known whether the run is finished.
        seconds: that it takes, roughly; 0 where it is finished, None where that cannot be foreseen.
    """

    node: Node
    run: Run | None
    waits_for: tuple[str, ...]
    seconds: float | None

    @property
    def state(self) -> str:
        """``finished``, ``to run``, or as in ``waits for resnet56``."""
        if self.run:
            return "finished"
        return f"waits for {' and '.join(self.waits_for)}" if self.waits_for else "to run"

    def to_json(self) -> dict[str, Any]:
        """As plain data; the id of a run that is finished."""
        node = self.node
        return {
            "name": node.entry.name,
            "budget": str(node.target) if node.target else None,
            "seed": node.seed,
            "trial": str(node.factors) if node.trial else None,
            "state": "finished" if self.run else "waiting" if self.waits_for else "to run",
            "waits_for": list(self.waits_for),
            "id": self.run.id if self.run else None,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """All runs of a study, in the order in which they are made."""

    runs: tuple[Planned, ...]

    @property
    def left(self) -> list[Planned]:
        """Those that are not finished."""
        return [one for one in self.runs if not one.run]

    @property
    def seconds(self) -> float:
        """What is left takes in all, as far as it can be foreseen."""
        return sum(one.seconds or 0.0 for one in self.left)

    def table(self) -> pd.DataFrame:
        """A row a run: its state, and what it takes."""
        return pd.DataFrame(
            {
                "run": [str(one.node) for one in self.runs],
                "state": [one.state for one in self.runs],
                "about": [MISSING if one.run or one.seconds is None else duration(one.seconds) for one in self.runs],
            }
        )

    def summary(self) -> str:
        """As in ``85 runs, 12 finished, 73 left: about 1 h 05 min (a guess, ...)``, and what limits that."""
        left, seeds = self.left, len({one.node.seed for one in self.runs})
        text = f"{len(self.runs)} runs, {len(self.runs) - len(left)} finished, {len(left)} left"
        if left:
            text += f": about {duration(self.seconds)} by one process ({GUESS})"
        if unknown := sum(one.seconds is None for one in left):
            text += f"; {unknown} of them not foreseen"
        if seeds < ENOUGH_SEEDS:
            text += f"; {seeds} seed{'s' * (seeds > 1)} of {ENOUGH_SEEDS} or more: what it finds will be preliminary"
        return text

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data; seconds of what is left, and what they rest on."""
        rows = [one.to_json() for one in self.runs]
        return {"runs": rows, "left": len(self.left), "seconds": self.seconds, "estimate": GUESS}


def plan_study(setting: Setting) -> StudyPlan:
    """The plan of a study; steps are timed, but nothing is trained or written."""
    ledger = Ledger(setting=setting)
    ledger.find()
    if ledger.left:
        console.print("planning: a few steps of every network shape are timed")
    seconds = Estimates(setting=setting).seconds(ledger.nodes, left=ledger.left)
    return StudyPlan(
        runs=tuple(
            Planned(
                node=node,
                run=ledger.outcomes.get(node),
                waits_for=tuple(ledger.waits_for(node)),
                seconds=seconds.get(node, 0.0),
            )
            for node in ledger.nodes
        )
    )
