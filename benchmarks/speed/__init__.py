"""Speed of training, as ratios: `python -m benchmarks.speed`; what was tried is in `docs/log.md`."""

from benchmarks.speed.bare import Layer, bare_layers, floor
from benchmarks.speed.measures import Sizes, measure, measure_growth

__all__ = ["Layer", "Sizes", "bare_layers", "floor", "measure", "measure_growth"]
