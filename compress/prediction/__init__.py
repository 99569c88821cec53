"""Prediction. Enters: labels for image files, by a run or by a bundle."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
