"""Figures: frames of results drawn by matplotlib, as SVG and PNG. Enters: drawing, with every number given."""

from benchmarks.report.figures.accuracy_against_cost import (
    accuracy_against_latency,
    accuracy_against_macs,
    accuracy_against_training,
    anytime,
)
from benchmarks.report.figures.block_probes import block_probes
from benchmarks.report.figures.files import save, svg
from benchmarks.report.figures.kept_channels import kept_channels
from benchmarks.report.figures.pruning_curves import pruning_curves
from benchmarks.report.figures.training_curves import training_curves

__all__ = [
    "accuracy_against_latency",
    "accuracy_against_macs",
    "accuracy_against_training",
    "anytime",
    "block_probes",
    "kept_channels",
    "pruning_curves",
    "save",
    "svg",
    "training_curves",
]
