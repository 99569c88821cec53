"""Data: named data sets as uint8 tensors, their splits, and the augmentation of a batch."""

from compress.data.augmentation import Augmentation, Flip, pad_crop_flip
from compress.data.dataset import Dataset, Labelled
from compress.data.normalisation import Normalisation, measure, normalise
from compress.data.sets import Availability, available, open_dataset
from compress.data.splits import Split, split

__all__ = [
    "Augmentation",
    "Availability",
    "Dataset",
    "Flip",
    "Labelled",
    "Normalisation",
    "Split",
    "available",
    "measure",
    "normalise",
    "open_dataset",
    "pad_crop_flip",
    "split",
]
