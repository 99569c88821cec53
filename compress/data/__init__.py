"""Data. Enters: data sets as uint8 images, their splits, augmentation and normalisation; no network."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
