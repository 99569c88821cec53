"""The dry run of a study: which runs are finished, which can begin, which wait for others, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.results.cells import MISSING
from benchmarks.statistics.scores import ENOUGH_SEEDS
from benchmarks.study.estimate import Estimate, estimate
from benchmarks.study.graph import Node
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.setting import Setting
from compress.console import console, duration

GUESS = "a guess, from MACs and a few steps timed now"


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """All runs of a study, the finished ones among them, and how long the others take."""

    outcomes: Outcomes
    estimate: Estimate

    @property
    def seconds(self) -> float:
        """A guess of how long the runs that are left take in all."""
        return sum(self.estimate.seconds.values())

    def state(self, node: Node) -> str:
        """``finished``, ``to run``, or as in ``waits for resnet56``."""
        if node in self.outcomes.runs:
            return "finished"
        return f"waits for {' and '.join(waits)}" if (waits := self.outcomes.waits_for(node)) else "to run"

    def table(self) -> pd.DataFrame:
        """Every run with its state and a guess of how long it takes, in the order in which they are made."""
        nodes, seconds = self.outcomes.nodes, self.estimate.seconds
        return pd.DataFrame(
            {
                "run": [str(node) for node in nodes],
                "state": [self.state(node) for node in nodes],
                "about": [duration(seconds[node]) if node in seconds else MISSING for node in nodes],
            }
        )

    def summary(self) -> str:
        """As in ``85 runs, 12 finished, 73 left: about 1 h 05 min (a guess, ...)``; and a warning of too few seeds."""
        nodes, left = self.outcomes.nodes, len(self.outcomes.left)
        text = f"{len(nodes)} runs, {len(nodes) - left} finished, {left} left"
        if left:
            text += f": about {duration(self.seconds)} by one process ({GUESS})"
        if (seeds := len({node.seed for node in nodes})) < ENOUGH_SEEDS:
            text += f"; {seeds} seed{'s' * (seeds > 1)} of {ENOUGH_SEEDS} or more: what it finds will be preliminary"
        return text

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data: every run, how many are left, for how many seconds, and what that rests on."""
        runs = [self._row(node) for node in self.outcomes.nodes]
        return {"runs": runs, "left": len(self.outcomes.left), "seconds": self.seconds, "estimate": GUESS}

    def _row(self, node: Node) -> dict[str, Any]:
        run, waits = self.outcomes.runs.get(node), self.outcomes.waits_for(node)
        return {
            "name": node.entry.name,
            "budget": str(node.target) if node.target else None,
            "seed": node.seed,
            "trial": str(node.factors) if node.trial else None,
            "state": "finished" if run else "waiting" if waits else "to run",
            "waits_for": waits,
            "id": run.id if run else None,
            "seconds": self.estimate.seconds.get(node, 0.0),
        }


def plan_study(setting: Setting) -> StudyPlan:
    """The plan of a study; a few steps are timed, but nothing is trained or written."""
    outcomes = Outcomes(setting=setting)
    outcomes.find()
    if outcomes.left:
        console.print("planning: a few steps of the first network are timed")
    return StudyPlan(outcomes=outcomes, estimate=estimate(setting, outcomes.left))
