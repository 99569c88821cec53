"""Data: named data sets as uint8 images, in memory or on disk, their splits, and the augmentation of a batch."""

from compress.data.augmentation import Augmentation, Flip, ResizedCrop, pad_crop_flip
from compress.data.dataset import Dataset, Labelled, Part, in_order
from compress.data.inventory import Inventory, take_inventory
from compress.data.normalisation import Normalisation, measure, normalise
from compress.data.sets import Availability, available, open_dataset
from compress.data.splits import Split, split, training_images
from compress.data.streaming import Streamed

__all__ = [
    "Augmentation",
    "Availability",
    "Dataset",
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
