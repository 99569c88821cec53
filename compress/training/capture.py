"""Capture of a training's step as a CUDA graph: all its kernels are launched at once.

Small networks leave a GPU waiting for the next launch. A step is warmed up, which compiles, chooses algorithms and
allocates momentum; what it changed meanwhile is restored in place; then it is recorded, and replayed for every batch.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from compress.console import console
from compress.errors import first_line
from compress.training.hooks import NO_HOOK, Options
from compress.training.objectives import Objective
from compress.training.step import Step

WARM_UP = 3  # steps, as PyTorch's own `make_graphed_callables`


class Graph(Protocol):
    """A recording of what a function does on a device."""

    def record(self, function: Callable[[], None]) -> None:
        """Call the function a few times, then record it without doing anything.

        The caller keeps what the function uses: a recording has the addresses of tensors alone.
        """

    def replay(self) -> None:
        """Do what was recorded, with the same tensors."""


class CudaGraph:
    """A recording of a GPU's work, on a stream of its own.

    Raises:
        RuntimeError: something cannot be recorded, such as a value that the host asks for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream, self.graph = device, torch.cuda.Stream(device), torch.cuda.CUDAGraph()

    def record(self, function: Callable[[], None]) -> None:
        with torch.random.fork_rng(devices=[self.device]), self._aside():
            for _ in range(WARM_UP):
                function()
            self._capture(function)

    def replay(self) -> None:
        self.graph.replay()

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Work on the graph's stream, in order with the present one, to which a failed capture would not return."""
        present = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(present)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            present.wait_stream(self.stream)

    def _capture(self, function: Callable[[], None]) -> None:
        """Capture the function; raises its own error rather than that of the end of the capture, which follows."""
        try:
            with collected(), torch.cuda.graph(self.graph, stream=self.stream):  # replays use the default generator
                function()
        except Exception as error:
            generator = torch.cuda.default_generators[self.stream.device.index]
            generator.graphsafe_set_state(generator.clone_state())  # the old one may stay marked as being captured
            raise error.__context__ or error from None


class Steps:
    """Takes the steps of a training: eagerly, or by a recording of the first one of its kind, for batches of one shape.

    Where recording fails, it is tried once more with the plain model, since what failed may have been the compiler. If
    that fails too, steps run eagerly from then on; in both cases from the same state.

    Args:
        eager: why steps run eagerly; None to record them.
        plain: model for steps since recording has failed.
        graph: makes a new recording.
    """

    def __init__(
        self, step: Step, *, eager: str | None, plain: nn.Module, graph: Callable[[torch.device], Graph] = CudaGraph
    ) -> None:
        self.step, self.eager, self.plain, self.new_graph = step, eager, plain, graph
        self.graph: Graph | None = None

    @property
    def captured(self) -> bool:
        """Whether steps are replayed."""
        return self.graph is not None

    @property
    def way(self) -> str:
        """How steps run, in words."""
        if self.eager:
            return f"steps run eagerly: {self.eager}"
        return f"steps captured as a CUDA graph, blocks {'not ' * (self.step.model is self.step.network)}compiled"

    def take(self, images: Tensor, labels: Tensor, *, average: bool) -> Tensor:
        """Take a step, as `Step` does; the next one may overwrite the losses that this one returns."""
        if not self.eager and (self.graph is None or average != self.average):
            self._record(images, labels, average=average)
        if self.graph is None:
            return self.step(images, labels, average=average)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.losses

    def forget(self) -> None:
        """Record anew at the next step, as tensors were replaced."""
        self.graph = None

    def _record(self, images: Tensor, labels: Tensor, *, average: bool) -> None:
        self.graph = None  # the memory of the last one is free for the next
        self.images, self.labels, self.average = images.clone(), labels.clone(), average

        def run() -> None:
            self.losses = self.step(self.images, self.labels, average=average)

        try:
            with restored(self.step):
                graph = self.new_graph(images.device)
                graph.record(run)
            self.graph = graph
            return
        except Exception as error:  # whatever a network, a compiler or a driver raises
            reason = first_line(error)
        if self.step.model is not self.plain:
            self.step.model = self.plain
            console.print(f"blocks run uncompiled ({reason})")
            self._record(images, labels, average=average)
            return
        self.eager = f"they could not be captured ({reason})"
        console.print(self.way)


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Collect garbage now, and none meanwhile: a graph that is destroyed during a capture of another would end it."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def restored(step: Step) -> Iterator[None]:
    """Restore in place, at the end, every tensor that the step changes; momentum that is new becomes zero.

    Zero momentum is as good as none: the first update is the same to the last bit.
    """
    before = {id(tensor): tensor.detach().clone() for tensor in step.tensors()}
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor in step.tensors():
                if id(tensor) in before:
                    tensor.copy_(before[id(tensor)])
                else:
                    tensor.zero_()


def why_eager(
    objective: Objective, options: Options, device: torch.device, processes: int, optimizer: str = "sgd"
) -> str | None:
    """Why the steps of a training are not captured; None if they are."""
    reasons = {
        "no GPU": device.type != "cuda",
        "--no-capture": not options.capture,
        "update sequential": objective.update == "sequential",
        "torch's Muon asks the device for the rate": optimizer == "muon",
        "the network is pruned or regularised meanwhile": options.hook != NO_HOOK,
        f"{processes} processes": processes > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
