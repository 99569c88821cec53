from .budget import Budget
from .forecast import Forecast, foresee
from .job import FineTuning, Job, finished_run
from .network_pruning import prune_network
from .pruning import carry_out, prune
from .removal_order import Size
from .technique import METHODS, Technique

__all__ = [
    "METHODS",
    "Budget",
    "FineTuning",
    "Forecast",
    "Job",
    "Size",
    "Technique",
    "carry_out",
    "finished_run",
    "foresee",
    "prune",
    "prune_network",
]
