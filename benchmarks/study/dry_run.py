"""The dry run of a study: which runs are finished, which can begin, which wait for others, and how long they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.statistics.scores import ENOUGH_SEEDS
from benchmarks.study.estimate import epochs, seconds_left
from benchmarks.study.graph import Node
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.setting import Setting
from compress.console import console, duration

if TYPE_CHECKING:
    import pandas as pd

GUESS = "a guess, from MACs and a few steps timed now"


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """All runs of a study, the finished ones among them, and a guess of how many seconds each of the others takes."""

    outcomes: Outcomes
    seconds: Mapping[Node, float]

    def table(self) -> pd.DataFrame:
        """Every run with its state and a guess of how long it takes, in the order in which they are made."""
        import pandas as pd  # here, as running a study does without it

        from benchmarks.results.cells import MISSING

        rows = self.to_json()["runs"]
        return pd.DataFrame(
            {
                "run": [str(node) for node in self.outcomes.nodes],
                "epochs": [row["epochs"] for row in rows],
                "state": [_state(row) for row in rows],
                "about": [duration(row["seconds"]) if row["id"] is None else MISSING for row in rows],
            }
        )

    def summary(self) -> str:
        """As in ``85 runs, 12 finished, 73 left: about 1 h 05 min (a guess, ...)``; and a warning of too few seeds."""
        nodes, left = self.outcomes.nodes, len(self.outcomes.left)
        text = f"{len(nodes)} runs, {len(nodes) - left} finished, {left} left"
        if left:
            text += f": about {duration(sum(self.seconds.values()))} by one process ({GUESS})"
        if (seeds := len({node.seed for node in nodes})) < ENOUGH_SEEDS:
            text += f"; {seeds} seed{'s' * (seeds > 1)} of {ENOUGH_SEEDS} or more: what it finds will be preliminary"
        return text

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data: every run, how many are left, for how many seconds, and what that rests on."""
        runs, left = [self._row(node) for node in self.outcomes.nodes], len(self.outcomes.left)
        return {"runs": runs, "left": left, "seconds": sum(self.seconds.values()), "estimate": GUESS}

    def _row(self, node: Node) -> dict[str, Any]:
        run, waits = self.outcomes.runs.get(node), self.outcomes.waits_for(node)
        return {
            "name": node.entry.name,
            "budget": str(node.target) if node.target else None,
            "seed": node.seed,
            "trial": str(node.factors) if node.trial else None,
            "epochs": epochs(self.outcomes.setting, node),
            "state": "finished" if run else "waiting" if waits else "to run",
            "waits_for": waits,
            "id": run.id if run else None,
            "seconds": self.seconds.get(node, 0.0),
        }


def _state(row: Mapping[str, Any]) -> str:
    """``finished``, ``to run``, or as in ``waits for resnet56``."""
    return f"waits for {' and '.join(row['waits_for'])}" if row["waits_for"] else str(row["state"])


def plan_study(setting: Setting) -> StudyPlan:
    """The plan of a study; a few steps are timed, but nothing is trained or written."""
    outcomes = Outcomes(setting=setting)
    outcomes.find()
    if outcomes.left:
        console.print("planning: a few steps of every kind of network are timed")
    return StudyPlan(outcomes=outcomes, seconds=seconds_left(setting, outcomes.left))
