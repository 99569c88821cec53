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
from compress.training.capture import CudaGraph

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILATIONS = 256  # torch's own limit on the number of compilations
FIRST_FP16 = (5, 3)  # the compute capability from which on NVIDIA's GPUs compute in fp16


class Eager(Engine):
    """Operator by operator, channels last."""

    name = "eager"
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    layout = torch.channels_last

    def precisions(self, device: torch.device) -> tuple[str, ...]:
        """fp32; bf16 where the hardware has instructions for it; fp16 on GPUs that have."""
        has_fp16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FIRST_FP16
        return ("fp32", *["bf16"] * has_bf16(device), *["fp16"] * has_fp16)

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
    """The eager operators, recorded once as a CUDA graph and replayed; copying images and logits is included."""

    name = "cudagraphs"
    devices = ("cuda",)
    graph: ClassVar[type[CudaGraph]] = CudaGraph

    def _prepare(self, source: Source, images: Tensor, dtype: torch.dtype) -> Infer:
        eager = super()._prepare(source, images, dtype)
        held, logits, graph = images.clone(), images, self.graph(images.device)

        def run() -> None:
            nonlocal logits
            logits = eager(held)

        with refusing(f"engine {self.name} cannot record {source.network.spec.arch}"):
            graph.record(run)

        @torch.inference_mode()
        def infer(images: Tensor, kept: Infer = eager) -> Tensor:
            """`kept`: the graph has the addresses of the network's weights, but does not keep them."""
            held.copy_(images)
            graph.replay()
            return logits.clone()

        return infer
