"""Supervision vanishing, seen: what probes of finished runs say, as tables, and whether shallow blocks differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.probing.retraining import QUARTERS
from benchmarks.report.comparison import make_directory
from benchmarks.report.figures import block_probes, save
from benchmarks.statistics.difference import difference
from benchmarks.statistics.scores import CONFIDENCE, ENOUGH_SEEDS, Scores

SHALLOW = 1 / 3 + 1e-9  # of the blocks: the first stage of the networks of the paper
FREE = 0.01  # a drop in accuracy that hardly matters
MISSING = "-"


def probe_tables(blocks: pd.DataFrame, retrained: pd.DataFrame) -> list[pd.DataFrame]:
    """What `read_probes` read, as tables of text: network by network, and shallow blocks pair by pair, if any."""
    return [table for table in (networks_table(blocks, retrained), shallow_comparison(blocks)) if not table.empty]


def write_probe_figure(blocks: pd.DataFrame, retrained: pd.DataFrame, path: Path) -> Path:
    """Write the figure that lays the probed runs over one another, as `path` with .svg; returns the file's path."""
    make_directory(path.parent)
    mean, count = blocks["probe_accuracy"].mean(), blocks["images"].iloc[0]
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * (mean * (1 - mean) / count) ** 0.5)
    title = (
        f"What every block has learnt, on {held_out_images(blocks)}, which leave an accuracy ±{100 * half:.0f} points"
    )
    save(block_probes(blocks, retrained, title), path)
    return path.with_suffix(".svg")


def held_out_images(blocks: pd.DataFrame) -> str:
    """Which images the probes were measured on, in words."""
    first = blocks.iloc[0]
    return f"{first['images']:,} " + (
        "training images, which the networks have seen and the probes have not"
        if first["seen_in_training"]
        else "validation images"
    )


def networks_table(blocks: pd.DataFrame, retrained: pd.DataFrame) -> pd.DataFrame:
    """What every block has learnt, summed up as text: a row a measure, a column a network, means over its seeds."""
    table = {}
    for _, own in blocks.groupby("series", sort=False):
        count = int(own["blocks"].iloc[0])
        at = {name: round(share * count) for name, share in QUARTERS.items()}
        accuracy = own.groupby("block")["probe_accuracy"].mean()
        shallow, free = own[own["position"] <= SHALLOW], _free(own)
        row = {"blocks": str(count)}
        row |= {f"probe after {name} of the blocks, %": _percent(accuracy.get(block)) for name, block in at.items()}
        row |= {
            "probe after all blocks, %": _percent(accuracy.iloc[-1]),
            "final exit, %": _percent(own["accuracy"].mean()),
            "gradient reaching the first third, 1 = even": _text((shallow["gradient_share"] * count).mean(), ".2f"),
            "mean CKA to next": _text(own["cka_to_next"].mean(), ".3f"),
            "mean drop when skipped, points": _text(100 * own["skip_drop"].mean(), ".1f"),
            f"blocks that cost < {100 * FREE:.0f} point when skipped": _text(free, ".3g"),
        }
        if not retrained.empty:
            epochs = int(retrained["epochs"].iloc[0])
            anew = retrained[retrained["series"] == own["series"].iloc[0]]
            again = anew.groupby("block")["retrained_accuracy"].mean()
            row |= {"seeds probed, retrained": f"{own['run'].nunique()}, {anew['run'].nunique()}"}
            row |= {
                f"{epochs} epochs anew behind {name} of the blocks, %": _percent(again.get(block))
                for name, block in at.items()
            }
        table[own["network"].iloc[0]] = row
    return pd.DataFrame(table).rename_axis("measure").reset_index()


def shallow_comparison(blocks: pd.DataFrame) -> pd.DataFrame:
    """Whether shallow blocks differ: probe accuracy over the first third of the blocks, pair by pair, as text.

    Every network that was not trained by plain BP is compared with every one that was, and those with the deepest of
    their own kind. The interval is `difference`'s, over seeds and held-out images. With one seed it covers the choice
    of images alone, and another training may say otherwise: below three, a verdict is preliminary.
    """
    shallow = blocks[blocks["position"] <= SHALLOW]
    right = {
        key: Scores.of(
            {one["seed"].iloc[0]: np.mean(np.stack(list(one["right"])), axis=0) for _, one in own.groupby("seed")}
        )
        for key, own in shallow.groupby("series", sort=False)
    }  # the share of shallow blocks whose probe is right
    first = blocks.groupby("series", sort=False).first()
    plain = first[(first["method"] == "bp") & (first["kind"] == "train")]
    table = []
    for key, network in first.iterrows():
        others = plain if key not in plain.index else plain[plain["blocks"] == plain["blocks"].max()].head(1)
        for other, compared in others.iterrows():
            if other == key or not {key, other} <= right.keys():
                continue
            one, two = right[str(key)], right[str(other)]
            found = difference(one, two)
            low, high = found.interval()
            seeds = min(found.seeds)
            verdict = "stronger" if low > 0 else "weaker" if high < 0 else "no difference shown"
            table.append(
                {
                    "network": network["network"],
                    "compared with": compared["network"],
                    "probe, first third, %": _percent(one.right.mean()),
                    "there, %": _percent(two.right.mean()),
                    "difference, points": f"{100 * found.estimate:+.1f}",
                    f"{CONFIDENCE:.0%} interval": f"{100 * low:+.1f} to {100 * high:+.1f}",
                    "seeds": str(seeds),
                    "shallow blocks": verdict if seeds >= ENOUGH_SEEDS else f"{verdict} (preliminary)",
                }
            )
    return pd.DataFrame(table)


def _percent(fraction: float | None) -> str:
    return MISSING if fraction is None else _text(100 * fraction, ".1f")


def _free(own: pd.DataFrame) -> float:
    """How many blocks cost next to nothing when skipped, a run; NaN where none could be skipped."""
    if own["skip_drop"].isna().all():
        return float("nan")
    return float((own["skip_drop"] < FREE).sum() / own["run"].nunique())


def _text(value: float, form: str) -> str:
    return MISSING if pd.isna(value) else f"{value:{form}}"
