"""Probe tables: what every block has learnt, network by network, and whether shallow blocks differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.probing.retraining import QUARTERS
from benchmarks.report.comparison import make_directory
from benchmarks.report.figures.block_probes import block_probes
from benchmarks.report.figures.files import save
from benchmarks.report.group import Group
from benchmarks.report.section import Section, Table, Text, figures
from benchmarks.results.caveats import with_caveat
from benchmarks.results.cells import Number, number
from benchmarks.results.probed_blocks import read_probes
from benchmarks.results.rows import names_by_series
from benchmarks.statistics.difference import difference
from benchmarks.statistics.scores import CONFIDENCE, Scores

SHALLOW = 1 / 3 + 1e-9  # of the blocks: the first stage of the networks of the paper
FREE = 0.01  # a drop in accuracy that hardly matters
METHOD = (
    "Probe: accuracy of a linear classifier on a block's pooled output. Gradient: a block's share of the gradient of "
    "the final exit's loss, times weights. CKA: similarity to the next block's output. Skipped: one block replaced by "
    "its shortcut. Retrained: the blocks behind the frozen ones trained anew by plain BP. Intervals are a bootstrap "
    "over seeds and images; with one seed they cover the choice of images alone, and a verdict is on the trained "
    "networks as they are. Measured by `compress probe RUN...`; "
    "retraining by its option `--retrain`."
)


def probes_section(group: Group) -> Section | None:
    """What every block of the probed runs has learnt; None if none was probed."""
    blocks, retrained = read_probes(group.runs, names_by_series(group.summary))
    if blocks.empty:
        return None
    return Section(
        "What every block has learnt",
        [
            Text(f"On {held_out_images(blocks)}."),
            *_tables(blocks, retrained),
            *figures(f"probe{group.suffix}", "Probes of every block", _drawing(blocks, retrained)),
        ],
        method=METHOD,
    )


def probe_tables(blocks: pd.DataFrame, retrained: pd.DataFrame) -> list[pd.DataFrame]:
    """What `read_probes` read, as tables of text: network by network, and shallow blocks pair by pair if there are."""
    return [pd.DataFrame(table.columns) for table in _tables(blocks, retrained)]


def write_probe_figure(blocks: pd.DataFrame, retrained: pd.DataFrame, path: Path) -> Path:
    """Write the figure that lays the probed runs over one another, as `path` with .svg; returns the file's path."""
    make_directory(path.parent)
    save(_drawing(blocks, retrained), path)
    return path.with_suffix(".svg")


def _tables(blocks: pd.DataFrame, retrained: pd.DataFrame) -> list[Table]:
    shallow = shallow_comparison(blocks)
    return [networks_table(blocks, retrained), *([shallow] if shallow.columns else [])]


def _drawing(blocks: pd.DataFrame, retrained: pd.DataFrame) -> Figure:
    mean, count = blocks["probe_accuracy"].mean(), blocks["images"].iloc[0]
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * (mean * (1 - mean) / count) ** 0.5)
    images = f"{held_out_images(blocks)}, which leave an accuracy ±{100 * half:.0f} points"
    return block_probes(blocks, retrained, f"What every block has learnt, on {images}")


def held_out_images(blocks: pd.DataFrame) -> str:
    """The images that the probes were measured on, in words."""
    first = blocks.iloc[0]
    seen = "training images, which the networks have seen and the probes have not"
    return f"{first['images']:,} {seen if first['seen_in_training'] else 'validation images'}"


def networks_table(blocks: pd.DataFrame, retrained: pd.DataFrame) -> Table:
    """What every block has learnt, summed up: a row for each measure, a column for each network; means over seeds."""
    rows: dict[str, dict[str, str]] = {}
    for _, own in blocks.groupby("series", sort=False):
        for measure, cell in _measures(own, retrained).items():
            rows.setdefault(measure, {"measure": measure})[own["network"].iloc[0]] = cell
    return Table.of(rows.values())


def _measures(own: pd.DataFrame, retrained: pd.DataFrame) -> dict[str, str]:
    """The measures of one network."""
    count = int(own["blocks"].iloc[0])
    at = {name: round(share * count) for name, share in QUARTERS.items()}
    accuracy = own.groupby("block")["probe_accuracy"].mean()
    shallow = own[own["position"] <= SHALLOW]
    measures = {
        "blocks": number(count, "d"),
        **{f"probe after {name} of the blocks, %": _percent(accuracy.get(block)) for name, block in at.items()},
        "probe after all blocks, %": _percent(accuracy.iloc[-1]),
        "final exit, %": _percent(own["accuracy"].mean()),
        "gradient reaching the first third, 1 = even": number((shallow["gradient_share"] * count).mean(), ".2f"),
        "mean CKA to next": number(own["cka_to_next"].mean(), ".3f"),
        "mean drop when skipped, points": number(own["skip_drop"].mean(), ".1f", scale=100),
        f"blocks that cost < {100 * FREE:.0f} point when skipped": number(_free(own), ".3g"),
    }
    if not retrained.empty:
        epochs = int(retrained["epochs"].iloc[0])
        anew = retrained[retrained["series"] == own["series"].iloc[0]]
        again = anew.groupby("block")["retrained_accuracy"].mean()
        seeds = own["run"].nunique()
        measures["seeds probed, retrained"] = Number(f"{seeds}, {anew['run'].nunique()}", seeds)
        for name, block in at.items():
            measures[f"retrained {epochs} epochs behind {name} of the blocks, %"] = _percent(again.get(block))
    return measures


def shallow_comparison(blocks: pd.DataFrame) -> Table:
    """Whether shallow blocks differ: probe accuracy over the first third of the blocks, pair by pair.

    Every network that was not trained by plain BP is compared with every one that was; of these, the deepest is
    compared with the others. With fewer than three seeds a verdict is preliminary.
    """
    shallow = blocks[blocks["position"] <= SHALLOW]
    right = {str(key): _shares(own) for key, own in shallow.groupby("series", sort=False)}
    first = blocks.groupby("series", sort=False).first()
    plain = first[(first["method"] == "bp") & (first["kind"] == "train")]
    rows = []
    for key, network in first.iterrows():
        others = plain if key not in plain.index else plain[plain["blocks"] == plain["blocks"].max()].head(1)
        for other, compared in others.iterrows():
            if other != key and {key, other} <= right.keys():
                names = {"network": network["network"], "compared with": compared["network"]}
                rows.append(names | _compared(right[str(key)], right[str(other)]))
    return Table.of(rows)


def _shares(own: pd.DataFrame) -> Scores:
    """For each seed and image, the share of a network's shallow blocks whose probe is right."""
    seeds = [(int(rows["seed"].iloc[0]), np.stack(list(rows["right"]))) for _, rows in own.groupby("seed")]
    return Scores.of({seed: right.mean(axis=0) for seed, right in seeds})


def _compared(network: Scores, other: Scores) -> dict[str, str]:
    found = difference(network, other)
    low, high = found.interval()
    seeds = min(found.seeds)
    verdict = "stronger" if low > 0 else "weaker" if high < 0 else "no difference shown"
    return {
        "probe, first third, %": _percent(network.right.mean()),
        "there, %": _percent(other.right.mean()),
        "difference, points": number(found.estimate, "+.1f", scale=100),
        f"{CONFIDENCE:.0%} interval": Number(f"{100 * low:+.1f} to {100 * high:+.1f}", low),
        "seeds": number(seeds, "d"),
        "shallow blocks": with_caveat(verdict, found.seeds),
    }


def _percent(fraction: float | None) -> str:
    return number(fraction, ".1f", scale=100)


def _free(own: pd.DataFrame) -> float:
    """How many blocks cost next to nothing when skipped, per run; NaN if none could be skipped."""
    if own["skip_drop"].isna().all():
        return float("nan")
    return float((own["skip_drop"] < FREE).sum() / own["run"].nunique())
