"""Inference. Enters: early exit of a trained network by a policy, and certificates of policies; no training."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
