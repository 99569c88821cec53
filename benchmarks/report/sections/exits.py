"""Exits: what each one reaches, and whether one training really is several good models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.report.sections.verdicts import contrast_cells, difference_cells
from benchmarks.results.arms import plainly_trained, protocol
from benchmarks.results.cells import MISSING, accuracy_cell, exit_name, markdown, mean_cell, megabytes, millions, ratios
from benchmarks.results.contrasts import CLASS, Contrast, compare, same_class
from benchmarks.statistics.scores import ENOUGH_SEEDS, Scores

FAR = 0.25  # a network whose MACs are farther off is named, and nothing subtracted
MEMORY = {  # of an exit, where it was measured
    "on disk": ("bytes", megabytes),
    "activations": ("activations", millions),
    "peak memory, training step of 128 (of it alone)": ("peak_training_bytes", megabytes),
    "peak memory, inference of 1": ("peak_inference_bytes_b1", megabytes),
    "inference of 128": ("peak_inference_bytes_b128", megabytes),
}
SEVERAL_MODELS = ("mwbp", "auxnet")  # the methods that claim to train them at once; the others are controls
Row = dict[Any, Any]
APART = (
    "Each auxiliary exit beside the networks of its budget class (MACs within {budget:.0%}) that were trained for "
    "themselves, plainly, by the same recipe but for rate and decay; where there is none, beside the nearest, whose "
    "MACs are the given share of the exit's: of such a pair there is no verdict, and beyond {far:.0%} no difference. "
    "Differences are the exit's accuracy less the other's{holm}."
)


def exits_section(summary: pd.DataFrame) -> list[str]:
    """Every exit of the networks that have several; nothing where none has."""
    several = summary[summary["exits"] > 1]
    return [] if several.empty else ["### Every exit", markdown(exits_table(several))]


def exits_table(summary: pd.DataFrame) -> pd.DataFrame:
    """A row an exit, as text."""
    columns = {
        "network": summary["network"],
        "exit": summary["exit"].astype(int).astype(str) + " of " + summary["exits"].astype(int).astype(str),
        "block": summary["block"].astype(int),
        "depth": summary["depth"].astype(int),
        "test accuracy, %": summary.apply(accuracy_cell, axis=1),
        "MACs": summary["macs"].map(millions),
        "parameters": summary["params"].map(millions),
    }
    for heading, (column, form) in MEMORY.items():
        if column in summary and summary[column].notna().any():
            columns[heading] = summary[column].map(form)
    for column in [str(column) for column in summary if str(column).startswith("latency_ratio_")]:
        if summary[column].notna().any():
            columns[f"latency ratio, batch {column.removeprefix('latency_ratio_b')}"] = ratios(summary[column])
    return pd.DataFrame(columns)


def apart_section(summary: pd.DataFrame, scores: Mapping[tuple[str, int], Scores]) -> list[str]:
    """Auxiliary exits by MW-BP or AuxNet against separately trained nets; nothing where there is none."""
    auxiliary = summary[~summary["last"] & summary["method"].isin(SEVERAL_MODELS)].to_dict("records")
    if not auxiliary:
        return []
    plain = summary[summary["config"].map(plainly_trained)].to_dict("records")
    beside: list[tuple[Row, Row | None]] = [(row, other) for row in auxiliary for other in _beside(row, plain)]
    named = {exit_name(row): scores.get((row["series"], row["exit"])) for row in [*auxiliary, *plain]}
    known = {name: one for name, one in named.items() if one is not None}
    pairs = [(exit_name(row), exit_name(other)) for row, other in beside if other and same_class(row, other)]
    judged = {one.pair: one for one in compare([pair for pair in pairs if set(pair) <= known.keys()], known)}
    near = [(exit_name(row), exit_name(other)) for row, other in beside if other and _near(row, other)]
    unjudged = {one.pair: one for one in compare([pair for pair in near if set(pair) <= known.keys()], known)}
    lines = [_line(row, other, judged, unjudged) for row, other in beside]
    comparisons = f"{len(judged)} comparison{'s' if len(judged) > 1 else ''} of this section"
    holm = f"; exploratory, p adjusted by Holm for {comparisons}"
    stated = APART.format(budget=CLASS, far=FAR, holm=holm if judged else "")
    table = pd.DataFrame(lines).fillna(MISSING)
    table = table[[*(column for column in table if column != "verdict"), "verdict"]]
    return [
        "### Exits against separately trained nets",
        _answer(auxiliary, list(judged.values())),
        stated,
        markdown(table),
    ]


def _beside(row: Row, plain: Sequence[Row]) -> Sequence[Row | None]:
    """The networks of the exit's class, else the nearest; None where none was trained alike."""
    wanted = protocol(row["config"])
    alike = [other for other in plain if protocol(other["config"]) == wanted]
    own = [other for other in alike if same_class(row, other)]
    return own or sorted(alike, key=lambda other: _distance(row, other))[:1] or [None]


def _distance(one: Row, two: Row) -> float:
    return abs(math.log(one["macs"] / two["macs"]))


def _near(one: Row, two: Row) -> bool:
    return _distance(one, two) <= math.log1p(FAR)


def _line(
    row: Row,
    other: Row | None,
    judged: Mapping[tuple[str, str], Contrast],
    unjudged: Mapping[tuple[str, str], Contrast],
) -> dict[str, str]:
    line = {"exit": exit_name(row), "test accuracy, %": mean_cell(row)}
    if other is None:
        return line | {"verdict": "nothing was trained alike"}
    line |= {
        "trained for itself": exit_name(other),
        "its accuracy, %": mean_cell(other),
        "its MACs": f"{other['macs'] / row['macs']:.0%}",
    }
    pair = (exit_name(row), exit_name(other))
    if pair in judged:
        return line | contrast_cells(judged[pair])
    if not _near(row, other):
        return line | {"verdict": "none: other budget"}
    if pair not in unjudged:
        return line | {"verdict": "none: no predictions"}
    return line | difference_cells(unjudged[pair]) | {"verdict": "none: other budget"}


def _answer(auxiliary: Sequence[Row], judged: Sequence[Contrast]) -> str:
    """What the comparisons within a class come to, in one sentence."""
    exits = f"Of {len(auxiliary)} auxiliary exit{'s' if len(auxiliary) > 1 else ''}"
    matched = len({one.network for one in judged})
    if not matched:
        return (
            f"{exits} none has a separately trained net of its budget class here: whether one training is several good "
            "models is not answered."
        )
    words = Counter("not distinguishable" if not one.distinguishable else one.verdict.split(" (")[0] for one in judged)
    counted = ", ".join(f"{count} {word}" for word, count in words.items())
    few = min(min(one.found.seeds) for one in judged) < ENOUGH_SEEDS
    has = "has" if matched == 1 else "have"
    nets = f"{matched} {has} a separately trained net of the same budget class here"
    return f"{exits} {nets}. Of these comparisons: {counted}{' (preliminary)' if few else ''}."
