"""Published figures: what others report on a data set, kept apart from all that is measured here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.report.group import Group
from benchmarks.report.section import Block, Section, Table, Text
from benchmarks.results.cells import MISSING, Number

FILE = Path(__file__).parent / "published.csv"  # figures as printed, an error where an error was printed
APART = (
    "**Published, not measured here**: other trainings, other counters of MACs, and some are the best epoch on the "
    "test images. They show where the field stands, and say nothing about the networks above."
)
RECODED = (
    " Nor are the images here those of the publications for certain: they were read from class folders, whose files "
    "may have been compressed again."
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


def published_section(group: Group) -> Section | None:
    """The published figures on the data set, a table for each kind of networks; None if there are none."""
    known = pd.read_csv(FILE, dtype=str, keep_default_na=False)
    found = known[known["dataset"] == group.data["name"]]
    if found.empty:
        return None
    recoded = RECODED if group.data["copy"].startswith("class folders") else ""
    blocks: list[Block] = [Text(APART + recoded)]
    for kind, own in found.groupby("group", sort=False):
        rows = ({heading: _cell(row[name]) for name, heading in NAMES.items()} for row in own.to_dict("records"))
        blocks += [Text(f"{kind}:"), Table.of(rows)]
    return Section("Published figures", blocks)


def _cell(text: str) -> str:
    try:
        return Number(text, float(text))
    except ValueError:
        return text or MISSING
