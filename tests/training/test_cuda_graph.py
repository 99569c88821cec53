"""A recording on a GPU goes about it in the right order, on one stream, as far as a stand-in for `torch.cuda` shows."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compress.training.capture import WARM_UP, CudaGraph

CUDA = torch.device("cuda", 0)


class FakeCuda:
    """Notes what is asked of it; work is noted with the stream that it is on, and whether it is captured."""

    def __init__(self, *, invalid: bool = False) -> None:
        self.invalid, self.capturing, self.present = invalid, False, "present"
        self.notes: list[tuple[str, ...]] = []
        self.default_generators = [
            SimpleNamespace(
                clone_state=lambda: "new state",
                graphsafe_set_state=lambda state: self.notes.append(("generator", state)),
            )
        ]

    def Stream(self, device: torch.device) -> Any:  # noqa: N802
        return SimpleNamespace(device=device, wait_stream=lambda other: self.notes.append(("side waits",)))

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.notes.append(("replay", self.present)))

    def current_stream(self, device: torch.device) -> Any:
        return SimpleNamespace(wait_stream=lambda other: self.notes.append(("present waits",)))

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.present = "side"
        try:
            yield
        finally:
            self.present = "present"

    @contextlib.contextmanager
    def graph(self, graph: Any, *, stream: Any) -> Iterator[None]:
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False
            if self.invalid:
                raise RuntimeError("operation failed due to a previous error during capture")

    def work(self) -> None:
        self.notes.append(("captured" if self.capturing else "done", self.present))
        if self.capturing and self.invalid:
            raise RuntimeError("operation not permitted when stream is capturing")


def on(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> CudaGraph:
    monkeypatch.setattr("compress.training.capture.torch.cuda", fake)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    return CudaGraph(CUDA)


def test_it_warms_up_and_captures_on_one_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda()
    graph = on(fake, monkeypatch)
    graph.record(fake.work)
    graph.replay()
    assert fake.notes == [
        ("side waits",),
        *[("done", "side")] * WARM_UP,
        ("captured", "side"),
        ("present waits",),
        ("replay", "present"),
    ]


def test_a_failed_capture_raises_what_made_it_fail_and_returns_to_the_present_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeCuda(invalid=True)
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        on(fake, monkeypatch).record(fake.work)
    assert fake.notes[-2:] == [("generator", "new state"), ("present waits",)]
    assert fake.present == "present"
