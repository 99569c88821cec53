"""Training. Enters: the training loop, methods and their objectives, checkpoints, and how a run is planned."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
