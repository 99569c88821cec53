"""Small, fast image classifiers: multi-exit training, pruning baselines, and a fair comparison of both."""

from compress.cost import Cost, cost, exit_costs
from compress.data import Dataset, normalise, open_dataset
from compress.errors import UsageError
from compress.networks import Architecture, Network, Spec, create, cut, load_pretrained, load_weights, register
from compress.recipes import RECIPES, Recipe
from compress.runs import Run, find_run, load
from compress.training import Place, Start, train

__version__ = "0.1.0"

__all__ = [
    "RECIPES",
    "Architecture",
    "Cost",
    "Dataset",
    "Network",
    "Place",
    "Recipe",
    "Run",
    "Spec",
    "Start",
    "UsageError",
    "cost",
    "create",
    "cut",
    "exit_costs",
    "find_run",
    "load",
    "load_pretrained",
    "load_weights",
    "normalise",
    "open_dataset",
    "register",
    "train",
]
