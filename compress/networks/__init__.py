"""Networks. Enters: blocks, exits and heads, architectures by name, specs and weights; no data and no training."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
