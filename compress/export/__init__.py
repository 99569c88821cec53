"""Export. Enters: bundles, directories with a model that run without this package, and the files in them."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
