from .data import Dataset, normalise, open_dataset
from .errors import UsageError
from .export import Bundle, export_bundle, read_bundle
from .network_cost import Cost, cost, exit_costs
from .networks import Architecture, Network, Spec, create, cut, load_pretrained, load_weights, plain, register
from .prediction import Prediction, Predictor, predictor
from .recipes import RECIPES, Recipe
from .runs import Run, find_run, load
from .training import Place, Start, train

__version__: str

__all__ = [
    "RECIPES",
    "Architecture",
    "Bundle",
    "Cost",
    "Dataset",
    "Network",
    "Place",
    "Prediction",
    "Predictor",
    "Recipe",
    "Run",
    "Spec",
    "Start",
    "UsageError",
    "cost",
    "create",
    "cut",
    "exit_costs",
    "export_bundle",
    "find_run",
    "load",
    "load_pretrained",
    "load_weights",
    "normalise",
    "open_dataset",
    "plain",
    "predictor",
    "read_bundle",
    "register",
    "train",
]
