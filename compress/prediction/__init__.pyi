from .image_files import image_files
from .predictor import Prediction, Predictor, is_bundle, predictor

__all__ = [
    "Prediction",
    "Predictor",
    "image_files",
    "is_bundle",
    "predictor",
]
