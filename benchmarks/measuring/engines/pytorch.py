"""PyTorch's own engines: eager, compiled by inductor, and CUDA graphs. A precision is a cast of weights and images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from benchmarks.measuring.engines.engine import Engine, Infer
from benchmarks.measuring.engines.source import LastExit, Source, refusing
from compress.hardware import has_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILATIONS = 256  # torch's own limit on all of them together
WARM_UP = 3  # passes before a CUDA graph is captured, as its documentation has it


class Eager(Engine):
    """Operator by operator, channels last."""

    name = "eager"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    layout = torch.channels_last

    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """Of a CPU, fp32, and bf16 where it has instructions for it."""
        return ("fp32", *(["bf16"] if has_bf16(device) else []), *(["fp16"] if device.type == "cuda" else []))

    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """As `Engine.prepare`; the threads are torch's own."""
        return [self._prepare(source, images, DTYPES[precision]) for source in sources]

    def _prepare(self, source: Source, images: Tensor, dtype: torch.dtype) -> Infer:
        network = LastExit(_placed(source, images, dtype))

        @torch.inference_mode()
        def infer(images: Tensor) -> Tensor:
            logits: Tensor = network(images.to(dtype))
            return logits

        return infer


class Compile(Eager):
    """`torch.compile` (inductor) of the whole network, for this one shape."""

    name = "compile"

    def prepare(self, sources: Sequence[Source], images: Tensor, precision: str, threads: int) -> list[Infer]:
        """As `Engine.prepare`; compiling takes from seconds to minutes a network."""
        torch.compiler.reset()  # what earlier measurements compiled would be looked through at every call
        enough = COMPILATIONS + len(sources)  # they are counted by code, which all networks share
        with torch._dynamo.config.patch(recompile_limit=enough, accumulated_recompile_limit=enough):
            prepared = super().prepare(sources, images, precision, threads)
            for infer in prepared:
                self._compile_now(infer, images)
        return prepared

    def _prepare(self, source: Source, images: Tensor, dtype: torch.dtype) -> Infer:
        network = torch.compile(LastExit(_placed(source, images, dtype)), dynamic=False, fullgraph=True)

        @torch.inference_mode()
        def infer(images: Tensor) -> Tensor:
            logits: Tensor = network(images.to(dtype))
            return logits

        return infer

    def _compile_now(self, infer: Infer, images: Tensor) -> None:
        with refusing("engine compile does not work here"):  # without a C++ compiler, Python's headers or Triton
            infer(images)


class CudaGraphs(Eager):
    """The eager operators, recorded once as a CUDA graph and replayed. Never run without CUDA."""

    name = "cudagraphs"
    devices = ("cuda",)

    def _prepare(self, source: Source, images: Tensor, dtype: torch.dtype) -> Infer:
        eager = super()._prepare(source, images, dtype)
        held = images.clone()
        stream = torch.cuda.Stream(images.device)
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
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


def _placed(source: Source, images: Tensor, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of the network on the images' device, channels last."""
    return copy.deepcopy(source.network).to(images.device, dtype).to(memory_format=torch.channels_last)
