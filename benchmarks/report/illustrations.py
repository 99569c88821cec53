"""Illustrations: which figures a report shows where, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report.figures import (
    accuracy_against_latency,
    accuracy_against_macs,
    accuracy_against_training,
    anytime,
    channels_kept,
    save,
    training_curves,
)
from benchmarks.results.epochs import read_epochs
from benchmarks.results.rows import names_by_series
from compress.runs import Run

ACCURACY = (
    "In the figures bars are 95% intervals over seeds, cut where they are longer than the scatter of all means. Pale: "
    "on average another network is at least as accurate at no more cost, which the intervals may not tell apart."
)
ANYTIME = (
    "The anytime curve shows the deepest exit that a budget affords, whatever its accuracy: nothing is chosen on test "
    "images."
)
CHANNELS = (
    "Solid: channels within a block; dotted: those it hands on. Of each arm, at every speed-up; means over seeds."
)
EPOCHS = (
    "Of last exits, of all networks that took more than one epoch: means over seeds, and bands from least to greatest."
)


def accuracy_figures(summary: pd.DataFrame, reference: str | None, out: Path, suffix: str, title: str) -> list[str]:
    """Write the figures of accuracy against costs into `out`, those that there are; what the report says of them."""
    curve = anytime(summary, title, reference)
    return [
        ACCURACY,
        *_shown(
            accuracy_against_macs(summary, title, reference), out / f"accuracy-macs{suffix}", "Accuracy against MACs"
        ),
        *_shown(
            accuracy_against_latency(summary, title, reference),
            out / f"accuracy-latency{suffix}",
            "Accuracy against latency",
        ),
        *_shown(
            accuracy_against_training(summary, title, reference),
            out / f"accuracy-training{suffix}",
            "Accuracy against training MACs",
        ),
        *([ANYTIME] if curve else []),
        *_shown(curve, out / f"anytime{suffix}", "Accuracy within a budget of MACs"),
    ]


def channels_section(runs: Sequence[Run], summary: pd.DataFrame, out: Path, suffix: str, title: str) -> list[str]:
    """The figure of channels kept a layer; nothing where none were removed."""
    image = _shown(channels_kept(runs, summary, title), out / f"channels{suffix}", "Channels kept")
    return ["### Channels kept", CHANNELS, *image] if image else []


def epochs_section(runs: Sequence[Run], summary: pd.DataFrame, out: Path, suffix: str, title: str) -> list[str]:
    """The figure of training curves; nothing where no run took two epochs."""
    image = _shown(
        training_curves(read_epochs(runs, names_by_series(summary)), title),
        out / f"training-curves{suffix}",
        "Training curves",
    )
    return ["### Training curves", EPOCHS, *image] if image else []


def _shown(figure: Figure | None, path: Path, words: str) -> list[str]:
    """The figure, written, as Markdown shows it; nothing where there is none."""
    if figure is None:
        return []
    save(figure, path)
    return [f"![{words}]({path.name}.svg)"]
