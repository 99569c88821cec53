"""Training: one loop, methods and their objectives, checkpoints, and a run from what is asked for to its record."""

from compress.training.execution import Prepared, execute, objective_of
from compress.training.hooks import Hook
from compress.training.methods import METHODS, Method
from compress.training.objectives import Objective, precision_of
from compress.training.plan import Plan
from compress.training.planning import (
    Place,
    Start,
    plan_of,
    spec_to_train,
    train,
    train_reference,
)
from compress.training.recorded_command import command_line, run_option
from compress.training.references import check_same_data, found_reference, is_reference
from compress.training.run_data import data_of
from compress.training.timing import image_seconds

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
    "objective_of",
    "plan_of",
    "precision_of",
    "run_option",
    "spec_to_train",
    "train",
    "train_reference",
]
