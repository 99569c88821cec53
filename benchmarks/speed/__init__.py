"""Speed: what training costs, as ratios (`python -m benchmarks.speed`). Enters: timings of our own training."""

from benchmarks.speed.bare_layers import Layer, bare_layers, floor
from benchmarks.speed.ratios import Sizes, measure, measure_growth

__all__ = ["Layer", "Sizes", "bare_layers", "floor", "measure", "measure_growth"]
