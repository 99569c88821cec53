"""Published figures: what others report on a data set, apart from all that is measured here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.results.cells import MISSING, markdown

FILE = Path(__file__).parent / "published.csv"  # figures as printed, an error where an error was
APART = (
    "**Published, not measured here**: other trainings, other counters of MACs, and some are the best epoch on the "
    "test images. They say where the field stands, and nothing about the networks above."
)
RECODED = (
    "Nor are the images above those of the publications for certain: they were read from class folders, whose files "
    "may have been compressed anew."
)
NAMES = {
    "network": "network",
    "error": "test error, %",
    "accuracy": "test accuracy, %",
    "before": "test accuracy, %: before",
    "after": "after",
    "macs_removed": "MACs removed, or speed-up",
    "params_removed": "parameters removed",
    "source": "source",
}


def published_section(dataset: str, copy: str = "") -> list[str]:
    """The published figures on a data set, a table a kind of networks; nothing on one without any.

    That `copy` is of image files, which may have been compressed anew, is said.
    """
    known = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    found = known[known["dataset"] == dataset]
    if found.empty:
        return []
    parts = ["### Published figures", f"{APART} {RECODED}" if copy.startswith("class folders") else APART]
    for group, own in found.groupby("group", sort=False):
        quoted = own[own["quoted"] == "yes"].replace("", MISSING)
        table = quoted[[column for column in NAMES if (quoted[column] != MISSING).any()]].rename(columns=NAMES)
        parts += [f"{group}:", markdown(table)]
        parts += [
            f"Not quoted, since not verified: {row['network']} ({row['source']})."
            for row in own[own["quoted"] == "no"].to_dict("records")
        ]
    return parts
