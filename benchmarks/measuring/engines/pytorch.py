"""PyTorch's engines: eager, compiled by inductor, and CUDA graphs. A precision is a cast of weights and images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.measuring.engines.engine import Engine, Infer
from benchmarks.measuring.engines.onnx_files import Source
from compress.export.onnx_graph import refusing
from compress.export.served_network import LastExit
from compress.hardware import has_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILATIONS = 256  # torch's own limit on the number of compilations
CAPTURE_WARM_UP = 3  # passes before a CUDA graph is captured, as in its documentation


class Eager(Engine):
    """Operator by operator, channels last."""

    name = "eager"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    layout = torch.channels_last

    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """fp32; bf16 where the hardware has instructions for it; fp16 on CUDA."""
        return ("fp32", *(["bf16"] if has_bf16(device) else []), *(["fp16"] if device.type == "cuda" else []))

    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """As `Engine.prepare`; the number of threads is torch's own."""
        return [self._prepare(source, images, DTYPES[precision]) for source in sources]

    def _prepare(self, source: Source, images: Tensor, dtype: torch.dtype) -> Infer:
        """A function from images to logits of a copy of the network, on the images' device, channels last."""
        placed = copy.deepcopy(source.network).to(images.device, dtype).to(memory_format=torch.channels_last)
        network = self._called(LastExit(placed))

        @torch.inference_mode()
        def infer(images: Tensor) -> Tensor:
            logits: Tensor = network(images.to(dtype))
            return logits

        return infer

    def _called(self, network: LastExit) -> Infer:
        """The function that is called."""
        return network


class Compile(Eager):
    """`torch.compile` (inductor) of the whole network, for one shape."""

    name = "compile"

    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """As `Engine.prepare`; compiling takes from seconds to minutes a network."""
        torch.compiler.reset()  # otherwise every call would search what earlier measurements compiled
        enough = COMPILATIONS + len(sources)  # compilations are counted by code, which all networks share
        with torch._dynamo.config.patch(recompile_limit=enough, accumulated_recompile_limit=enough):
            prepared = super().prepare(sources, images, precision, threads)
            with refusing("engine compile does not work here"):  # without a C++ compiler, Python's headers or Triton
                for infer in prepared:
                    infer(images)  # compiles
        return prepared

    def _called(self, network: LastExit) -> Infer:
        return torch.compile(network, dynamic=False, fullgraph=True)


class CudaGraphs(Eager):
    """The eager operators, recorded once as a CUDA graph and replayed."""

    name = "cudagraphs"
    devices = ("cuda",)

    def _prepare(self, source: Source, images: Tensor, dtype: torch.dtype) -> Infer:
        eager = super()._prepare(source, images, dtype)
        held = images.clone()
        stream = torch.cuda.Stream(images.device)
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):
            for _ in range(CAPTURE_WARM_UP):
                eager(held)
        torch.cuda.current_stream(images.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = eager(held)

        @torch.inference_mode()
        def infer(images: Tensor) -> Tensor:
            held.copy_(images)
            graph.replay()
            return logits.clone()

        return infer
