from .execution import Prepared, execute, objective_of
from .hooks import Hook
from .methods import METHODS, Method
from .objectives import Objective, precision_of
from .plan import Plan
from .planning import (
    Place,
    Start,
    plan_of,
    spec_to_train,
    train,
    train_reference,
)
from .recorded_command import command_line, run_option
from .references import check_same_data, found_reference, is_reference
from .run_data import data_of, normalised_as
from .training_time import image_seconds

__all__ = [
    "METHODS",
    "Hook",
    "Method",
    "Objective",
    "Place",
    "Plan",
    "Prepared",
    "Start",
    "check_same_data",
    "command_line",
    "data_of",
    "execute",
    "found_reference",
    "image_seconds",
    "is_reference",
    "normalised_as",
    "objective_of",
    "plan_of",
    "precision_of",
    "run_option",
    "spec_to_train",
    "train",
    "train_reference",
]
