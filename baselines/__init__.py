"""Baselines: what multi-way backpropagation is compared with."""

from baselines.budget import Budget
from baselines.forecast import Forecast, foresee
from baselines.job import Job, macs_of
from baselines.pruning import carry_out, prune
from baselines.steps import Size
from baselines.technique import METHODS, Technique

__all__ = ["METHODS", "Budget", "Forecast", "Job", "Size", "Technique", "carry_out", "foresee", "macs_of", "prune"]
