from .budget import Budget
from .finding import finished_run
from .forecast import Forecast, foresee, narrower
from .job import FineTuning, Job
from .pruning import carry_out, prune
from .steps import Size
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
    "narrower",
    "prune",
]
