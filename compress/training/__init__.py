"""Training: one loop, the objectives, checkpoints, and a run from plan to record."""

from compress.training.objectives import OBJECTIVES, Objective, objective_named
from compress.training.session import Plan, command_line, execute, train, without_seed

__all__ = ["OBJECTIVES", "Objective", "Plan", "command_line", "execute", "objective_named", "train", "without_seed"]
