from .image_paths import image_files
from .predictors import Prediction, Predictor, predictor
from .source import find_source

__all__ = [
    "Prediction",
    "Predictor",
    "find_source",
    "image_files",
    "predictor",
]
