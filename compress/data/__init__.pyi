from .augmentation import Augmentation, AugmentationDraw, Flip, ResizedCrop, pad_crop_flip
from .catalogue import Availability, available
from .dataset import Dataset, Labelled, Part, in_order
from .division import Division
from .folder_inventory import Inventory, take_inventory
from .normalisation import Normalisation, measure, normalise
from .sets import open_dataset
from .splits import Split, split, training_images
from .streaming import Streamed

__all__ = [
    "Augmentation",
    "AugmentationDraw",
    "Availability",
    "Dataset",
    "Division",
    "Flip",
    "Inventory",
    "Labelled",
    "Normalisation",
    "Part",
    "ResizedCrop",
    "Split",
    "Streamed",
    "available",
    "in_order",
    "measure",
    "normalise",
    "open_dataset",
    "pad_crop_flip",
    "split",
    "take_inventory",
    "training_images",
]
