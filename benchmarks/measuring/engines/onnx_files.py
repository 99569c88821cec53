"""ONNX files of a network, exported and quantised when they are first needed, and the network that they are made of."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from compress.errors import UsageError, first_line
from compress.networks import Network

BATCH = "batch"  # the name of the only dimension that the files leave open; engines fix it
IMAGES, LOGITS = "images", "logits"
CALIBRATION_BATCH = 32

logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # other notices are for the exporter's developers


class LastExit(nn.Module):
    """A network that returns the logits of its last exit alone, `(N, classes)` in fp32."""

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
        """The file that a runtime computes a precision from, written at the first call; runtimes cast fp32 themselves.

        Raises:
            UsageError: torch.onnx cannot export the network, or ONNX Runtime cannot quantise it.
        """
        name = "int8" if precision == "int8" else "fp32"
        path = self._folder / f"{name}.onnx"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            with warnings.catch_warnings(action="ignore"):
                self._quantise(path) if name == "int8" else self._export(path)
        return path

    def _export(self, path: Path) -> None:
        """Write the network with an open batch size."""
        # From channels-last weights the exporter makes a graph with transpositions.
        network = copy.deepcopy(self.network).to(memory_format=torch.contiguous_format)
        images = torch.zeros(2, *network.spec.input_shape)  # with a single image the exporter would fix the batch size
        with refusing(f"{network.spec.arch}: torch.onnx cannot export this network"):
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

    def _quantise(self, path: Path) -> None:
        """Quantise the network statically (QDQ): u8 activations, s8 weights by channel, ranges by min and max.

        All engines use the same file. On CPUs without VNNI weights have 7 bits, since products of 8 bits overflow.
        """
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        assert self.calibration is not None
        batches = iter([{IMAGES: batch.numpy()} for batch in self.calibration.split(CALIBRATION_BATCH)])
        prepared, onnx = self._folder / "prepared.onnx", self.onnx("fp32")
        with refusing(f"{self.network.spec.arch}: ONNX Runtime cannot quantise this network"):
            quant_pre_process(onnx, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                path,
                SimpleNamespace(get_next=lambda: next(batches, None)),  # a CalibrationDataReader
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduced_range(),
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )


def reduced_range() -> bool:
    """Whether weights get 7 bits, as on x86 without VNNI, whose 16-bit sums of products saturate."""
    has = torch.cpu.get_capabilities()
    return has.get("architecture") == "x86_64" and not (has.get("avx512_vnni") or has.get("avx_vnni"))


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn any error of a package into one line for the user that begins with `what`.

    Raises:
        UsageError: there was one.
    """
    try:
        yield
    except Exception as error:  # the packages' errors have no common class
        raise UsageError(f"{what}: {first_line(error)}") from error
