"""Baselines: what multi-way backpropagation is compared with."""

from baselines.budget import Budget
from baselines.pruning import METHODS, prune

__all__ = ["METHODS", "Budget", "prune"]
