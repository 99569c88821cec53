"""Runtimes that read ONNX files: ONNX Runtime and OpenVINO, on the CPU; their packages are imported at first use."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring.engines.engine import Engine, Infer
from benchmarks.measuring.engines.onnx_files import Source
from compress.export.onnx_graph import BATCH, IMAGES, LOGITS, refusing

OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # int8: for the other operators


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider, one operator at a time."""

    name = "onnxruntime"
    devices = ("cpu",)
    packages = ("onnx", "onnxscript", "onnxruntime")

    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """fp32 and int8: few of its CPU kernels have bf16 or fp16, most would run in fp32 between casts."""
        return ("fp32", "int8")

    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """As `Engine.prepare`; every network has its own session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_free_dimension_override_by_name(BATCH, len(images))

        def prepared(source: Source) -> Infer:
            path = str(source.onnx(precision))
            with refusing(f"engine {self.name} cannot run {source.network.spec.arch} in {precision}"):
                session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            return lambda images: torch.from_numpy(session.run([LOGITS], {IMAGES: images.numpy()})[0])

        return [prepared(source) for source in sources]


class OpenVino(Engine):
    """OpenVINO's CPU plugin, one stream, tuned for latency."""

    name = "openvino"
    devices = ("cpu",)
    packages = ("onnx", "onnxscript", "onnxruntime", "openvino")  # it is ONNX Runtime that quantises

    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """The precisions that the plugin reports for this CPU."""
        has = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return tuple(precision for precision in OPENVINO_TYPES if precision.upper() in has)

    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """As `Engine.prepare`; the precision is explicit, as the plugin would use bf16 where the CPU has it."""
        settings = {
            "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }

        def prepared(source: Source) -> Infer:
            path = source.onnx(precision)
            with refusing(f"engine {self.name} cannot run {source.network.spec.arch} in {precision}"):
                model = _core().read_model(path)
                model.reshape(list(images.shape))
                request = _core().compile_model(model, "CPU", settings).create_infer_request()
            return lambda images: torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0])

        return [prepared(source) for source in sources]


@functools.cache
def _core() -> Any:
    # On import the package sends usage data to its makers, unless this module is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()
