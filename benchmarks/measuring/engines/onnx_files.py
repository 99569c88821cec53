"""ONNX files of a network, exported and quantised when they are first needed, and the network that they are made of."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from compress.export.onnx_graph import LEAST_IMAGES, describe, quantise, refusing, write_graph
from compress.export.served_network import LastExit
from compress.networks import Network


class Source:
    """A network of one exit, and the files that runtimes read.

    Attributes:
        network: on the CPU, in fp32 and eval mode; engines copy it.
        calibration: normalised images `(N, C, H, W)` to quantise it with; None where nothing is quantised.
    """

    def __init__(self, network: Network, folder: Path, calibration: Tensor | None = None) -> None:
        self.network, self.calibration = network, calibration
        self._folder = folder

    def onnx(self, precision: str) -> Path:
        """The file that a runtime computes a precision from, written at the first call; runtimes cast fp32 themselves.

        All engines use the same file, without the exporter's notes, as a bundle's is.

        Raises:
            UsageError: torch.onnx cannot export the network, or ONNX Runtime cannot quantise it.
        """
        path = self._folder / f"{'int8' if precision == 'int8' else 'fp32'}.onnx"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._quantise(path) if precision == "int8" else self._export(path)
            describe(path, {})
        return path

    def _export(self, path: Path) -> None:
        # From channels-last weights the exporter makes a graph with transpositions.
        network = copy.deepcopy(self.network).to(memory_format=torch.contiguous_format)
        images = torch.zeros(LEAST_IMAGES, *network.spec.input_shape)
        with refusing(f"{network.spec.arch}: torch.onnx cannot export this network"):
            write_graph(LastExit(network).eval(), images, path)

    def _quantise(self, path: Path) -> None:
        assert self.calibration is not None
        graph = self.onnx("fp32")
        with refusing(f"{self.network.spec.arch}: ONNX Runtime cannot quantise this network"):
            quantise(graph, path, self.calibration)
