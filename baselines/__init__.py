"""Baselines: what multi-way backpropagation is compared with."""

from baselines.budget import Budget
from baselines.effort import Images, effort
from baselines.finding import finished_run
from baselines.forecast import Forecast, foresee, narrower
from baselines.job import FineTuning, Job, macs_of, run_and_exit
from baselines.pruning import carry_out, prune
from baselines.steps import Size
from baselines.technique import METHODS, Technique

__all__ = [
    "METHODS",
    "Budget",
    "FineTuning",
    "Forecast",
    "Images",
    "Job",
    "Size",
    "Technique",
    "carry_out",
    "effort",
    "finished_run",
    "foresee",
    "macs_of",
    "narrower",
    "prune",
    "run_and_exit",
]
