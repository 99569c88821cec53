from .data import Dataset, normalise, open_dataset
from .errors import UsageError
from .network_cost import Cost, cost, exit_costs
from .networks import Architecture, Network, Spec, create, cut, load_pretrained, load_weights, plain, register
from .recipes import RECIPES, Recipe
from .runs import Run, find_run, load
from .training import Place, Start, train

__version__: str

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
    "plain",
    "register",
    "train",
]
