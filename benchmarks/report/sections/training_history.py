"""Training history: accuracy and loss after each epoch."""

from __future__ import annotations

from benchmarks.report.figures.training_curves import training_curves
from benchmarks.report.group import Group
from benchmarks.report.section import Section, Text, figures

CURVES = (
    "Last exits of all networks that were trained for more than one epoch: means over seeds, with bands from the least "
    "to the greatest."
)


def training_section(group: Group) -> Section | None:
    """The training curves; None if no run took two epochs."""
    drawing = training_curves(group.epochs, group.name)
    image = figures(f"training-curves{group.suffix}", "Training curves", drawing)
    return Section("Training curves", [Text(CURVES), *image]) if image else None
