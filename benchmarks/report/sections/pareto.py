"""Pareto fronts: which networks no other one beats in accuracy and cost, how surely, and what a method reaches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.report.group import Group
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.report.sections.networks import batches
from benchmarks.results.arms import plainly_trained
from benchmarks.results.caveats import preliminary
from benchmarks.results.cells import MISSING, Number, accuracy_cell, exit_name, millions, percent
from benchmarks.statistics.difference import JOINT_DRAWS, accuracy_draws
from benchmarks.statistics.fronts import hypervolume, on_front
from benchmarks.statistics.scores import CONFIDENCE

SHARE = 0.05  # points that fewer draws put on a front, and that are on none, are left out
FRONTS = (
    "On each front: the share of bootstrap draws in which no other network is at least as accurate at no higher cost; "
    "in brackets if the mean accuracies alone do not put the network there."
)
VOLUME = (
    "Hypervolume: the share of the area between chance ({floor:.3g}%) and perfect accuracy, and between no MACs and "
    "those of {reference} ({limit}), that a method's networks dominate. Cheap networks weigh much: compare methods "
    "only where their budgets are alike."
)
ONE_SEED = (
    "Of a network with one seed, draws and intervals are over test images alone: they are on the trained network as it "
    "is, and say nothing of training again or of methods. "
)
METHOD = (
    "Every exit of every network is a point, except for the steps of iterative pruning. A point is on a front if no "
    "other point is at least as accurate at no higher cost, and better in one of both. The shares count "
    f"{JOINT_DRAWS:,} bootstrap draws of test images, the same for all networks, and of seeds, as for the verdicts; "
    f"costs are taken as they are. Points on no front that reach {SHARE:.0%} on none are left out; a front of latency "
    "holds measured points alone. The hypervolume (Zitzler & Thiele 1998) is the mean, over all budgets up to the "
    "reference point, of how much of the way from chance to perfect accuracy the method's best network within a budget "
    "gets, and 0 where there is none. The reference point is fixed by the task and not by the results; a network that "
    f"costs as much adds nothing, and methods without cheaper ones are left out. {CONFIDENCE:.0%} intervals are "
    "percentiles of the same draws."
)


def pareto_section(group: Group) -> Section | None:
    """The points on the fronts and every method's hypervolume; None if fewer than two networks have scores."""
    summary = group.summary[group.summary["step"].isna()]
    keys = list(zip(summary["series"], summary["exit"], strict=True))
    points = summary[[key in group.scores for key in keys]]
    if points["series"].nunique() < 2:
        return None
    draws = accuracy_draws([group.scores[key] for key in keys if key in group.scores])
    caution = preliminary([*points["n"]]) + (ONE_SEED if points["n"].min() == 1 else "")
    return Section(
        "Pareto fronts",
        [Text(caution + FRONTS), fronts_table(points, draws), *_volume(group, points, draws)],
        method=METHOD,
    )


def fronts_table(points: pd.DataFrame, draws: np.ndarray) -> Table:
    """A row for each point that is on a front or may be, cheapest first; `draws` are `(draws, points)`."""
    shown, cells = np.zeros(len(points), dtype=bool), {}
    for heading, column in _costs(points).items():
        known = points[column].notna().to_numpy()
        costs = points.loc[known, column].to_numpy(dtype=float)
        means = points.loc[known, "test_accuracy"].to_numpy(dtype=float)[None]
        share, there = np.full(len(points), np.nan), np.zeros(len(points), dtype=bool)
        share[known] = on_front(costs, draws[:, known]).mean(axis=0)
        there[known] = on_front(costs, means)[0]
        shown |= there | (share >= SHARE)
        cells[f"front: {heading}"] = [_cell(*pair) for pair in zip(share, there, strict=True)]
    rows = [
        {
            "network": exit_name(row),
            "MACs": millions(row["macs"]),
            "parameters": millions(row["params"]),
            "test accuracy, %": accuracy_cell(row),
        }
        | {heading: column[number] for heading, column in cells.items()}
        for number, row in enumerate(points.to_dict("records"))
    ]
    return Table.of(rows[number] for number in np.argsort(points["macs"].to_numpy(), kind="stable") if shown[number])


def _costs(points: pd.DataFrame) -> dict[str, str]:
    """Columns of costs, by what they are called; a latency only if all were measured in one session."""
    found = {"MACs": "macs", "parameters": "params"}
    if "bench_session" in points and points["bench_session"].nunique() == 1:
        found |= {f"latency, batch {batch}": f"latency_ratio_b{batch}" for batch in batches(points)[:1]}
    return found


def _cell(share: float, on: bool) -> str:
    if np.isnan(share):
        return MISSING
    text = "< 1%" if 0 < share < 0.005 else "> 99%" if 0.995 <= share < 1 else f"{share:.0%}"
    return Number(text if on else f"({text})", share)


def _volume(group: Group, points: pd.DataFrame, draws: np.ndarray) -> list[Block]:
    limit = group.reference_row
    if limit is None:
        last = group.last[group.last["step"].isna()]
        limit = last.sort_values("macs").iloc[-1]
    classes = len(group.data["classes"])
    table = volume_table(points, draws, limit=float(limit["macs"]), floor=1 / classes)
    stated = VOLUME.format(floor=100 / classes, reference=limit["network"], limit=millions(limit["macs"]))
    return [Text(stated), table] if table.columns else []


def volume_table(points: pd.DataFrame, draws: np.ndarray, *, limit: float, floor: float) -> Table:
    """A row for each method, the largest hypervolume first."""
    cheaper = (points["macs"] < limit).to_numpy()
    points, draws = points[cheaper], draws[:, cheaper]
    names, rows = methods(points), []
    for name in names.unique():
        own = (names == name).to_numpy()
        costs, means = (points.loc[own, column].to_numpy(dtype=float) for column in ("macs", "test_accuracy"))
        [volume] = hypervolume(costs, means[None], limit=limit, floor=floor)
        drawn = hypervolume(costs, draws[:, own], limit=limit, floor=floor)
        low, high = np.percentile(drawn, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
        row = {
            "method": name,
            "points": Number(str(len(costs)), len(costs)),
            "MACs, least": millions(costs.min()),
            "most": millions(costs.max()),
            "hypervolume, %": percent(volume),
            f"{CONFIDENCE:.0%} interval": Number(f"{percent(low)} to {percent(high)}", low),
        }
        rows.append((volume, row))
    return Table.of(row for _, row in sorted(rows, key=lambda pair: -pair[0]))


def methods(points: pd.DataFrame) -> pd.Series:
    """The method of each point: the exits of one training, the budgets of an arm, all networks by plain BP alike.

    Networks by plain BP are alike if they have the same recipe, with the same changes, and epochs; any other network is
    its own method.
    """
    plain = points["config"].map(plainly_trained) & (points["family"] == "train")
    changes = points["changes"].where(points["changes"] == "", ", " + points["changes"])
    protocol = points["recipe"] + changes + ", " + points["epochs"].astype(int).astype(str) + " epochs"
    several = protocol[plain].nunique() > 1
    names = points["network"].where(points["family"] == "train", points["arm"])
    names = names.where(points["exits"] == 1, points["network"] + ", its exits")
    return names.where(~plain, "plain BP" + (" (" + protocol + ")" if several else ""))
