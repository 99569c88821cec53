"""Baselines. Enters: pruning methods and the controls that a comparison with multi-way backpropagation needs."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
