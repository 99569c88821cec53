"""Groups of runs, from runs or from rows of a summary alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.report.comparison import Comparison
from benchmarks.report.group import Group
from benchmarks.report.section import Bullets, Section, Table, Text
from benchmarks.report.sections.answer import _budgets, _line
from benchmarks.results.contrasts import judge
from benchmarks.results.latencies import latencies
from benchmarks.results.predictions import of_last_exits
from benchmarks.statistics.scores import Scores
from compress.ensemble_exit import ExitName
from compress.runs import Run

IMAGES = 1000


def scores_of(rows: list[dict[str, Any]]) -> Mapping[tuple[str, ExitName], Scores]:
    """Scores of these accuracies, the same for every seed."""
    return {
        (row["series"], row["exit"]): Scores(
            seeds=tuple(range(row["n"])),
            right=np.tile(np.arange(IMAGES) < row["test_accuracy"] * IMAGES, (row["n"], 1)),
        )
        for row in rows
    }


def network(
    name: str, macs: list[float], accuracies: list[float], seeds: int = 3, more: Mapping[str, Any] = {}, **config: Any
) -> list[dict[str, Any]]:
    """The rows of a network in a summary, one for each exit, with `more` columns and settings of its configuration."""
    settings: dict[str, Any] = {
        "kind": "train", "method": "bp", "recipe": {"name": "quick"}, "request": {}, "precision": "fp32",
        "objective": {"update": "simultaneous", "decay_factors": [1.0], "teacher": 0.0},
        "spec": {"arch": name, "blocks": 3, "exits": list(range(len(macs)))},
    } | config  # fmt: skip
    kind, exits = settings["kind"], len(macs)
    shared: dict[str, Any] = {
        "series": name, "config": settings, "network": name, "arm": name, "arm_key": name, "base": name,
        "family": {"prune": "width"}.get(kind, kind), "method": settings["method"], "kind": kind, "recipe": "quick",
        "run": f"{name}_s0", "epochs": 5, "exits": exits, "n": seeds, "test_accuracy_half_width": 0.01, "step": np.nan,
        "requested_speedup": settings["request"].get("speedup", np.nan), "params": 1e5,
    }  # fmt: skip
    return [
        shared
        | {"exit": exit, "last": exit == exits, "macs": size, "test_accuracy": accuracy}
        | {"achieved_speedup": 200 / size, "origin_macs": 200, "total_training_macs": 1e6 * macs[-1]}
        | dict(more)
        for exit, (size, accuracy) in enumerate(zip(macs, accuracies, strict=True), start=1)
    ]


def table_of(section: Section | None) -> list[dict[str, str]]:
    """The rows of a section's first table."""
    assert section
    return next(block.rows for block in section.blocks if isinstance(block, Table))


def texts_of(section: Section | None) -> list[str]:
    """A section's texts, then its items."""
    assert section
    texts = [block.words for block in section.blocks if isinstance(block, Text)]
    return texts + [item for block in section.blocks if isinstance(block, Bullets) for item in block.items]


def answers(group: Group) -> list[dict[str, str]]:
    """The rows of the answer, also of a group without runs."""
    budgets = _budgets(group)
    judged = group.compare((best, other) for best, *others in budgets for other in others)
    return [_line(group, rows, judged) for rows in budgets]


@pytest.fixture(scope="session")
def grouped() -> Callable[..., Group]:
    """A group of runs."""

    def make(runs: list[Run], **comparison: Any) -> Group:
        return Group.of(runs, Comparison(runs=runs, **comparison), latencies(runs))

    return make


@pytest.fixture(scope="session")
def summed_up() -> Callable[..., Group]:
    """A group without runs, from the rows of its summary."""

    def make(rows: list[dict[str, Any]], reference: str | None = None) -> Group:
        summary, scores = pd.DataFrame(rows), scores_of(rows)
        return Group(
            runs=[],
            frame=summary,
            summary=summary,
            reference=reference,
            scores=scores,
            verdicts=judge(summary, of_last_exits(scores), reference),
            latencies=pd.DataFrame(),
        )

    return make
