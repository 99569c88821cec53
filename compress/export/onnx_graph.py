"""ONNX graphs: written from a module by torch.onnx, quantised by ONNX Runtime, and described by their metadata."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError, first_line

BATCH = "batch"  # the name of the only dimension that graphs leave open
IMAGES, LOGITS = "images", "logits"
CALIBRATION_BATCH = 32
LEAST_IMAGES = 2  # with a single image the exporter would fix the batch size


def write_graph(
    module: nn.Module, images: Tensor, path: Path, *, input: str = IMAGES, outputs: Sequence[str] = (LOGITS,)
) -> None:
    """Write a module in eval mode that maps images `(N, C, H, W)` to its outputs, with an open batch size.

    `images` are an example, two of them or more, of the shape and type that the graph takes.
    """
    with _quiet():
        program = torch.onnx.export(
            module,
            (images,),
            input_names=[input],
            output_names=list(outputs),
            dynamic_shapes=({0: BATCH},),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path)


def quantise(graph: Path, path: Path, calibration: Tensor) -> None:
    """Write a graph in int8, quantised statically (QDQ): u8 activations, s8 weights by channel, ranges by min and max.

    On CPUs without VNNI weights have 7 bits, since products of 8 bits overflow.

    Args:
        graph: the graph in fp32.
        path: where the quantised graph is written.
        calibration: images as the graph takes them.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = iter([{IMAGES: batch.numpy()} for batch in calibration.split(CALIBRATION_BATCH)])
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(graph, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            SimpleNamespace(get_next=lambda: next(batches, None)),  # a CalibrationDataReader
            nodes_to_exclude=_last_softmax(prepared),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduced_range(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _last_softmax(path: Path) -> list[str]:
    """The name of the softmax that a graph ends with, if it does: 8 bits would round small probabilities to zero."""
    import onnx

    graph = onnx.load(path).graph
    ends = {output.name for output in graph.output}
    return [node.name for node in graph.node if node.op_type == "Softmax" and ends & set(node.output)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back warnings, and what a package logs as one, which are for its developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def reduced_range() -> bool:
    """Whether weights get 7 bits, as on x86 without VNNI, whose 16-bit sums of products saturate."""
    has = torch.cpu.get_capabilities()
    return has.get("architecture") == "x86_64" and not (has.get("avx512_vnni") or has.get("avx_vnni"))


def describe(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a graph; what the exporter notes at every node, such as places in our code, goes."""
    import onnx

    model: Any = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


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
