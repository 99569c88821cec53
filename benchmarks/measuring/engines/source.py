"""A network as engines get it: the module itself, and ONNX files made from it when they are first asked for."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.networks import Network

BATCH = "batch"  # the name of the one dimension that the files leave open; engines fix it
IMAGES, LOGITS = "images", "logits"
CALIBRATION_BATCH = 32


class LastExit(nn.Module):
    """A network as one that returns its last exit's logits alone, `(N, classes)` in fp32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)[-1]
        return logits.float()


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
        """The file that a runtime computes this precision from: bf16 and fp16 it makes of fp32 by itself."""
        return self.int8 if precision == "int8" else self.fp32

    @cached_property
    def fp32(self) -> Path:
        """The exported network, with its batch size left open.

        Raises:
            UsageError: torch.onnx cannot export it.
        """
        # Of channels-last weights the exporter makes a graph with transpositions in it.
        network = copy.deepcopy(self.network).to(memory_format=torch.contiguous_format)
        images = torch.zeros(2, *network.spec.input_shape)  # of one image the exporter would fix the number
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "fp32.onnx"
        try:
            with _quiet():
                program = torch.onnx.export(
                    LastExit(network).eval(),
                    (images,),
                    input_names=[IMAGES],
                    output_names=[LOGITS],
                    dynamic_shapes=({0: BATCH},),
                    dynamo=True,
                    verbose=False,
                )
                assert program is not None
                program.save(path)
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise UsageError(f"{network.spec.arch}: torch.onnx cannot export this network ({_gist(error)})") from error
        return path

    @cached_property
    def int8(self) -> Path:
        """The network quantised after training: static QDQ, u8 activations, s8 weights a channel, by min and max.

        One file for all engines. On CPUs without VNNI weights have 7 bits, since products of 8 overflow there.

        Raises:
            UsageError: there are no images to calibrate on, or the network cannot be exported or quantised.
        """
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        if self.calibration is None:
            raise UsageError("int8 needs images to calibrate on")

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # of a package without types
            def __init__(self, batches: Iterator[Tensor]) -> None:
                self.batches = batches

            def get_next(self) -> dict[str, Any] | None:
                batch = next(self.batches, None)
                return None if batch is None else {IMAGES: batch.numpy()}

        prepared, path = self._folder / "prepared.onnx", self._folder / "int8.onnx"
        onnx = self.fp32
        with _quiet(), refusing(f"{self.network.spec.arch}: ONNX Runtime cannot quantise this network"):
            quant_pre_process(onnx, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                path,
                Reader(iter(self.calibration.split(CALIBRATION_BATCH))),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduced_range(),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        return path


def reduced_range() -> bool:
    """Whether weights are quantised to 7 bits, as x86 without VNNI needs it: its 16-bit sums of products saturate."""
    has = torch.cpu.get_capabilities()
    return has.get("architecture") == "x86_64" and not (has.get("avx512_vnni") or has.get("avx_vnni"))


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Whatever error a package raises, as the user's, with a line on what it could not do.

    Raises:
        UsageError: there was one.
    """
    try:
        yield
    except Exception as error:  # the packages' errors have none in common
        raise UsageError(f"{what}: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notices, which tell its developers what it is made of."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        log.setLevel(level)
