"""Pruning curves: accuracy of every arm at every budget, and what each pruned network was asked for and became."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from baselines.budget import TOLERANCE
from benchmarks.report.figures import pruning_curves, save
from benchmarks.results.cells import MISSING, markdown, mean_cell, millions, number, percent, ratios

Row = Mapping[Any, Any]
ASKED = {"ratio": ".2f", "speedup": ".2f", "macs": ",.0f", "params": ",.0f", "latency_ratio": ".2f"}
OPTIONAL = (  # of records, older ones and controls among them
    *(f"{when}_{option}" for when in ("requested", "achieved") for option in ASKED),
    *("val_accuracy_before", "val_accuracy_pruned", "choosing_macs", "choosing_seconds"),
)
CURVES = (
    "An arm is a technique at several budgets; all start from the same reference. Test accuracy in per cent at the "
    "budget asked for, with 95% intervals over seeds where there are several; in brackets the speed-up achieved where "
    "the budget was missed by more than 1%."
)


def curves_section(summary: pd.DataFrame, reference: str | None, figure: Path, title: str) -> list[str]:
    """The table and the figure of arms with several budgets, beside them the others; nothing where there is none."""
    summary = _with_gaps(summary)
    points = _pruned(summary)
    if points.empty or points.groupby("arm_key")["series"].nunique().max() < 2:
        return []
    compared_with = summary[summary["last"] & (summary["series"] == reference)]
    drawing = pruning_curves(summary, title, reference)
    if drawing is not None:
        save(drawing, figure)
    line = [f"Reference: {row['network']}, {mean_cell(row)}." for row in compared_with.to_dict("records")]
    return [
        "### Pruning curves",
        " ".join([CURVES, *line]),
        markdown(curves_table(summary)),
        *([] if drawing is None else [f"![Pruning curves]({figure.name}.svg)"]),
    ]


def curves_table(summary: pd.DataFrame) -> pd.DataFrame:
    """A row an arm, a column a budget, as text."""
    found = _pruned(_with_gaps(summary)).to_dict("records")
    budgets = sorted({_budget(row) for row in found}, key=lambda budget: (list(ASKED).index(budget[0]), budget[1]))
    cells: dict[str, dict[str, str]] = {}
    for row in found:
        cells.setdefault(row["arm"], {})[_in_words(*_budget(row))] = _cell(row)
    table = pd.DataFrame([{"arm": arm} | row for arm, row in cells.items()])
    return table.reindex(columns=["arm", *dict.fromkeys(_in_words(*budget) for budget in budgets)]).fillna(MISSING)


def pruning_section(summary: pd.DataFrame) -> list[str]:
    """What pruning, or a control, was asked for, what it did and what it cost; nothing where nothing was pruned."""
    pruned = _pruned(_with_gaps(summary))
    if pruned.empty:
        return []
    table = pd.DataFrame(
        {
            "network": pruned["network"],
            "requested": [_in_words(*_budget(row)) for row in pruned.to_dict("records")],
            "ratio of channels removed": pruned["achieved_ratio"].map(lambda ratio: number(ratio, ".3f")),
            "speed-up": ratios(pruned["achieved_speedup"]),
            "parameters": pruned["params"].map(millions),
            "choosing, MACs": (pruned["choosing_macs"] / 1e12).map(lambda macs: number(macs, ".3f", "T")),
            "choosing, s": pruned["choosing_seconds"].map(lambda seconds: number(seconds, ".1f")),
            "all training MACs": (pruned["total_training_macs"] / 1e12).map(lambda macs: number(macs, ".2f", "T")),
            "validation accuracy, %: before": pruned["val_accuracy_before"].map(percent),
            "right after pruning": pruned["val_accuracy_pruned"].map(percent),
            "fine-tuned": pd.to_numeric(pruned["val_accuracy"]).map(percent),
        }
    )
    known = (table != MISSING).any()
    return ["### Pruning, requested and achieved", markdown(table.loc[:, known])]


def _pruned(summary: pd.DataFrame) -> pd.DataFrame:
    """The last exits of what was pruned, and of controls; steps on the way to another network are left out."""
    return summary[summary["last"] & (summary["family"] != "train") & summary["step"].isna()]


def _with_gaps(summary: pd.DataFrame) -> pd.DataFrame:
    """With a column, empty perhaps, for everything that a record may say."""
    return summary.assign(**dict.fromkeys((column for column in OPTIONAL if column not in summary), np.nan))


def _budget(row: Row) -> tuple[str, float]:
    """The option that was asked for, and its value; what came out where the record does not say."""
    asked = [(option, value) for option in ASKED if not pd.isna(value := row.get(f"requested_{option}", np.nan))]
    return asked[0] if asked else ("macs", row["macs"])


def asked_for(row: Row) -> str:
    """The budget that was asked for, as in ``speedup 2.50``."""
    return _in_words(*_budget(row))


def _in_words(option: str, value: float) -> str:
    return f"{option.replace('_', '-')} {value:{ASKED[option]}}"


def _cell(row: Row) -> str:
    option, asked = _budget(row)
    achieved = row["macs"] if option == "macs" else row[f"achieved_{option}"]
    met = option == "latency_ratio" or abs(achieved / asked - 1) <= TOLERANCE
    return mean_cell(row) + ("" if met else f" [{number(row['achieved_speedup'], '.2f', 'x')}]")
