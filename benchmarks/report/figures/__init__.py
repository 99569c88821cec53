"""Figures that one would put in a paper: as SVG (the same bytes for the same numbers) and PNG, readable in grey."""

from benchmarks.report.figures.accuracy_and_cost import (
    accuracy_against_latency,
    accuracy_against_macs,
    accuracy_against_training,
    anytime,
    dominated,
)
from benchmarks.report.figures.block_probes import blocks_overlaid
from benchmarks.report.figures.files import make_directory, save
from benchmarks.report.figures.kept_channels import channels_kept, pruning_curves
from benchmarks.report.figures.training_curves import training_curves
from benchmarks.results.epochs import read_epochs

__all__ = [
    "accuracy_against_latency",
    "accuracy_against_macs",
    "accuracy_against_training",
    "anytime",
    "blocks_overlaid",
    "channels_kept",
    "dominated",
    "make_directory",
    "pruning_curves",
    "read_epochs",
    "save",
    "training_curves",
]
