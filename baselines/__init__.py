"""Baselines. Enters: pruning methods and the controls that a comparison with multi-way backpropagation needs."""

from baselines.budget import Budget
from baselines.effort import Images, effort, narrower
from baselines.forecast import Forecast, foresee
from baselines.job import FineTuning, Job, finished_run, macs_of, run_and_exit
from baselines.pruning import carry_out, prune
from baselines.removal_order import Size
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
