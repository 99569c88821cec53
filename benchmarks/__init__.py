"""Benchmarks. Enters: measuring finished runs, tables and statistics of them, the report, and whole studies."""

from compress.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
