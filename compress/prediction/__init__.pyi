from .image_paths import image_files
from .predictors import Prediction, Predictor, early_exit_predictor, predictor
from .source import find_source

__all__ = [
    "Prediction",
    "Predictor",
    "early_exit_predictor",
    "find_source",
    "image_files",
    "predictor",
]
