"""Engines: the ways to run a network that are timed and compared. Enters: how a network is prepared and called."""

import torch

from benchmarks.measuring.engines.engine import PRECISIONS, Engine, Infer
from benchmarks.measuring.engines.onnx_files import Source
from benchmarks.measuring.engines.pytorch import Compile, CudaGraphs, Eager
from benchmarks.measuring.engines.runtimes import OnnxRuntime, OpenVino
from compress.errors import UsageError, nearest
from compress.export.onnx_graph import reduced_range

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (Eager(), Compile(), OnnxRuntime(), OpenVino(), CudaGraphs())
}


def engine_named(name: str) -> Engine:
    """The engine with this name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}: {nearest(name, ENGINES)}")
    return ENGINES[name]


def engines_here(device: torch.device) -> list[tuple[Engine, str]]:
    """Every installed engine that runs on the device, with each of its precisions there."""
    installed = [engine for engine in ENGINES.values() if device.type in engine.devices and not engine.missing]
    return [(engine, precision) for engine in installed for precision in engine.precisions(device)]


__all__ = ["ENGINES", "PRECISIONS", "Engine", "Infer", "Source", "engine_named", "engines_here", "reduced_range"]
