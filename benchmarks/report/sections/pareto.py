"""Pareto fronts: which networks no other one beats in accuracy and cost, how surely, and what a method reaches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmarks.results.arms import plainly_trained
from benchmarks.results.cells import MISSING, accuracy_cell, exit_name, markdown, millions, percent
from benchmarks.statistics.difference import JOINT_DRAWS, accuracy_draws
from benchmarks.statistics.fronts import hypervolume, on_front
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS, Scores

SHARE = 0.05  # points that fewer draws put on a front, and that are on none, are left out
FRONTS = (
    "Every exit of every network is a point, steps of iterative pruning aside, and on a front where no other point is "
    f"at least as accurate at no higher cost, and better in one of both. Shown is the share of {JOINT_DRAWS:,} "
    "bootstrap draws of test images, the same for all, and seeds, as for the verdicts, in which that is so; in "
    "brackets where the mean accuracies do not say so themselves. Costs are taken as they are; on a front of latency "
    f"are measured points alone. Left out: what is on no front and reaches {SHARE:.0%} on none."
)
VOLUME = (
    "Hypervolume (Zitzler & Thiele 1998): the share of the area between chance ({floor:.3g}%) and perfect accuracy, "
    "and between no MACs and those of {reference} ({limit}), that a method's networks dominate. That is the mean, over "
    "all budgets up to there, of how much of the way from chance to perfect the method's best network within a budget "
    "gets, 0 where there is none. The reference point is fixed by the task and not by the results, and far from them: "
    "cheap networks weigh much, so methods are alike only where their budgets are. What costs as much as the reference "
    f"point adds nothing, and methods of nothing else are left out. {CONFIDENCE:.0%} intervals are percentiles of the "
    "same draws."
)


def pareto_section(
    summary: pd.DataFrame, scores: Mapping[tuple[str, int], Scores], reference: str | None, classes: int
) -> list[str]:
    """The points on the fronts and every method's hypervolume; nothing where fewer than two networks have scores."""
    summary = summary[summary["step"].isna()]
    keys = list(zip(summary["series"], summary["exit"], strict=True))
    points = summary[[key in scores for key in keys]]
    if points["series"].nunique() < 2:
        return []
    draws = accuracy_draws([scores[key] for key in keys if key in scores])
    few = points["n"].min() < ENOUGH_SEEDS
    caution = [
        "**Preliminary**: of a network with one seed images alone are resampled, and training's own scatter is in no "
        "share and no interval."
    ]
    return [
        "### Pareto fronts",
        FRONTS,
        *(caution if points["n"].min() == 1 else ["**Preliminary.**"] if few else []),
        markdown(fronts_table(points, draws)),
        *_volume(points, draws, summary, reference, classes),
    ]


def fronts_table(points: pd.DataFrame, draws: np.ndarray) -> pd.DataFrame:
    """A row a point that is on a front or may be, cheapest first, as text; `draws` are `(draws, points)`."""
    shown, cells = np.zeros(len(points), dtype=bool), {}
    for heading, column in _costs(points).items():
        known = points[column].notna().to_numpy()
        costs = points.loc[known, column].to_numpy(dtype=float)
        means = points.loc[known, "test_accuracy"].to_numpy(dtype=float)[None]
        share, there = np.full(len(points), np.nan), np.zeros(len(points), dtype=bool)
        share[known] = on_front(costs, draws[:, known]).mean(axis=0)
        there[known] = on_front(costs, means)[0]
        shown |= there | (share >= SHARE)
        cells[f"front: {heading}"] = [_cell(one, on=on) for one, on in zip(share, there, strict=True)]
    table = pd.DataFrame(
        {
            "network": points.apply(exit_name, axis=1),
            "MACs": points["macs"].map(millions),
            "parameters": points["params"].map(millions),
            "test accuracy, %": points.apply(accuracy_cell, axis=1),
        }
        | cells,
        index=points.index,
    )
    return table.loc[points[shown].sort_values("macs", kind="stable").index]


def _costs(points: pd.DataFrame) -> dict[str, str]:
    """Columns of costs, by what they are called; a latency only where all were measured in one session."""
    found = {"MACs": "macs", "parameters": "params"}
    if "bench_session" in points and points["bench_session"].nunique() == 1:
        ratios = [str(column) for column in points if str(column).startswith("latency_ratio_")]
        measured = [column for column in ratios if points[column].notna().any()][:1]
        found |= {f"latency, batch {column.removeprefix('latency_ratio_b')}": column for column in measured}
    return found


def _cell(share: float, *, on: bool) -> str:
    if np.isnan(share):
        return MISSING
    text = "< 1%" if 0 < share < 0.005 else "> 99%" if 0.995 <= share < 1 else f"{share:.0%}"
    return text if on else f"({text})"


def _volume(
    points: pd.DataFrame, draws: np.ndarray, summary: pd.DataFrame, reference: str | None, classes: int
) -> list[str]:
    last = summary[summary["last"]]
    limits = last[last["series"] == reference] if reference is not None else last
    limit = limits.sort_values("macs").iloc[-1]
    table = volume_table(points, draws, limit=float(limit["macs"]), floor=1 / classes)
    stated = VOLUME.format(floor=100 / classes, reference=limit["network"], limit=millions(limit["macs"]))
    return [stated, markdown(table)] if len(table) else []


def volume_table(points: pd.DataFrame, draws: np.ndarray, *, limit: float, floor: float) -> pd.DataFrame:
    """A row a method, as text, the largest hypervolume first."""
    cheaper = (points["macs"] < limit).to_numpy()
    points, draws = points[cheaper], draws[:, cheaper]
    names, found = methods(points), {}
    for name in names.unique():
        own = (names == name).to_numpy()
        costs, means = (points.loc[own, column].to_numpy(dtype=float) for column in ("macs", "test_accuracy"))
        [volume] = hypervolume(costs, means[None], limit=limit, floor=floor)
        low, high = np.percentile(
            hypervolume(costs, draws[:, own], limit=limit, floor=floor), [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
        )
        found[name] = (volume, low, high, costs)
    return pd.DataFrame(
        {
            "method": name,
            "points": str(len(costs)),
            "MACs, least": millions(costs.min()),
            "most": millions(costs.max()),
            "hypervolume, %": percent(volume),
            f"{CONFIDENCE:.0%} interval": f"{percent(low)} to {percent(high)}",
        }
        for name, (volume, low, high, costs) in sorted(found.items(), key=lambda item: -item[1][0])
    )


def methods(points: pd.DataFrame) -> pd.Series:
    """What method each point belongs to: the exits of one training, an arm's budgets, all nets by plain BP together.

    These where they were trained alike, that is; a network that is none of it stands for itself.
    """
    plain = points["config"].map(plainly_trained) & (points["family"] == "train")
    protocol = points["recipe"] + ", " + points["epochs"].astype(int).astype(str) + " epochs"
    several = protocol[plain].nunique() > 1
    names = points["network"].where(points["family"] == "train", points["arm"])
    names = names.where(points["exits"] == 1, points["network"] + ", its exits")
    return names.where(~plain, "plain BP" + (" (" + protocol + ")" if several else ""))
