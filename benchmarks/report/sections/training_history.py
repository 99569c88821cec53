"""Training history: accuracy and loss after each epoch."""

from __future__ import annotations

from benchmarks.report.figures.training_curves import training_curves
from benchmarks.report.group import Group
from benchmarks.report.section import Section, Text, figures
from benchmarks.results.epochs import read_epochs
from benchmarks.results.rows import names_by_series

CURVES = (
    "Last exits of all networks that were trained for more than one epoch: means over seeds, with bands from the least "
    "to the greatest."
)


def training_section(group: Group) -> Section | None:
    """The training curves; None if no run took two epochs."""
    drawing = training_curves(read_epochs(group.runs, names_by_series(group.summary)), group.name)
    image = figures(f"training-curves{group.suffix}", "Training curves", drawing)
    return Section("Training curves", [Text(CURVES), *image]) if image else None
