"""Groups of runs, from runs or from rows of a summary alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.report.comparison import Comparison
from benchmarks.report.group import Group
from benchmarks.results.contrasts import judge
from benchmarks.results.latencies import latencies
from benchmarks.results.predictions import of_last_exits
from benchmarks.statistics.scores import Scores
from compress.runs import Run

IMAGES = 1000


def scores_of(rows: list[dict[str, Any]]) -> Mapping[tuple[str, int], Scores]:
    """Scores of these accuracies, the same for every seed."""
    return {
        (row["series"], row["exit"]): Scores(
            seeds=tuple(range(row["n"])),
            right=np.tile(np.arange(IMAGES) < row["test_accuracy"] * IMAGES, (row["n"], 1)),
        )
        for row in rows
    }


def network(
    name: str, macs: float, accuracy: float, seeds: int = 3, exit: int = 1, exits: int = 1, **more: Any
) -> dict[str, Any]:
    """A row of a summary."""
    return {
        **{"series": name, "network": name, "exit": exit, "exits": exits, "last": exit == exits, "macs": macs},
        **{"n": seeds, "test_accuracy": accuracy, "test_accuracy_half_width": 0.01, "step": float("nan")},
        **{"total_training_macs": macs},
    } | more


@pytest.fixture(scope="session")
def grouped() -> Callable[..., Group]:
    """A group of runs."""

    def make(runs: list[Run], **comparison: Any) -> Group:
        return Group.of(runs, Comparison(runs=runs, **comparison), latencies(runs))

    return make


@pytest.fixture(scope="session")
def summed_up() -> Callable[..., Group]:
    """A group without runs, from the rows of its summary."""

    def make(rows: list[dict[str, Any]], reference: str | None = None, primary: Any = None) -> Group:
        summary, scores = pd.DataFrame(rows), scores_of(rows)
        return Group(
            runs=[],
            frame=summary,
            summary=summary,
            reference=reference,
            scores=scores,
            verdicts=judge(summary, of_last_exits(scores), reference, primary),
            latencies=pd.DataFrame(),
        )

    return make
