"""Figures that one would put in a paper: as SVG (the same bytes for the same numbers) and PNG, readable in grey."""

from benchmarks.figures.accuracy import (
    accuracy_against_latency,
    accuracy_against_macs,
    accuracy_against_training,
    anytime,
    dominated,
)
from benchmarks.figures.epochs import read_epochs, training_curves
from benchmarks.figures.files import make_directory, save
from benchmarks.figures.probes import blocks_overlaid
from benchmarks.figures.pruning import channels_kept, pruning_curves

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
