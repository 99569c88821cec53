"""Small, fast image classifiers: multi-exit training, pruning baselines, and a fair comparison of both.

The public names are listed in `__init__.pyi`; each is imported when it is first used.
"""

from compress.lazy import attach_stub

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
