"""Capture of steps where something fails: a compiler, a recording; what runs then, and from which state."""

import contextlib
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from compress.data import Dataset
from compress.networks import spec_of
from compress.training import Method
from compress.training.capture import WARM_UP, CudaGraph, collected, why_eager
from compress.training.execution import _ways
from compress.training.hooks import Hook, Options
from tests.training.step_cases import CASES, Course, assert_same, course_of, played

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm's statistics are what the steps made of them."""
    monkeypatch.setattr("compress.training.loop.steps_to_settle", lambda network: 0.0)


@pytest.fixture
def eager(tiny: Dataset, settled: None) -> Course:
    """The course of steps that nobody records."""
    return course_of(CASES["mwbp"].training(tiny))


@pytest.mark.parametrize("fails", [1, WARM_UP])
def test_where_recording_fails_steps_run_eagerly_from_the_same_state_after_one_line(
    fails: int, tiny: Dataset, eager: Course, capsys: pytest.CaptureFixture[str]
) -> None:
    training, players = played(CASES["mwbp"].training(tiny), fails)
    assert_same(course_of(training), eager)
    lines = [line for line in capsys.readouterr().err.splitlines() if "captured" in line]
    assert lines == ["steps run eagerly: they could not be captured (operation not permitted when stream is capturing)"]
    assert len(players) == 1
    assert not training.stepping.captured
    assert training.model is training.network


class Uncompilable(nn.Module):
    """Stands for a network with compiled blocks, which runs a few times before the compiler fails."""

    def __init__(self, network: nn.Module, runs: int) -> None:
        super().__init__()
        self.network, self.runs = network, runs

    def forward(self, *inputs: Any) -> Any:
        if not self.runs:
            raise RuntimeError("no Triton\nand more")
        self.runs -= 1
        return self.network(*inputs)


@pytest.mark.parametrize("runs", [0, WARM_UP - 1])
def test_where_blocks_do_not_compile_steps_are_recorded_without_from_the_same_state(
    runs: int, tiny: Dataset, eager: Course, capsys: pytest.CaptureFixture[str]
) -> None:
    training = CASES["mwbp"].training(tiny)
    training, players = played(training, compiled=Uncompilable(training.network, runs))
    assert _ways(training) == {"compiled": True, "captured": False}
    assert_same(course_of(training), eager)
    assert [player.replays for player in players] == [0, 20]
    assert _ways(training) == {"compiled": False, "captured": True}
    assert "blocks run uncompiled (no Triton)" in capsys.readouterr().err.splitlines()
    assert training.stepping.way == "steps captured as a CUDA graph, blocks not compiled"


def test_where_recording_fails_without_compiled_blocks_too_steps_run_eagerly(tiny: Dataset, eager: Course) -> None:
    training = CASES["mwbp"].training(tiny)
    training, players = played(training, fails=1, compiled=Uncompilable(training.network, 0))
    assert_same(course_of(training), eager)
    assert len(players) == 2
    assert _ways(training) == {"compiled": False, "captured": False}


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_during_a_capture(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an earlier training's graph might be destroyed in it; CUDA's own part is left out here."""
    monkeypatch.setattr("torch.cuda.graph", lambda graph, stream: contextlib.nullcontext())
    graph = object.__new__(CudaGraph)
    graph.graph = graph.stream = None  # type: ignore[assignment]
    earlier = nn.Module()
    vars(earlier)["itself"] = earlier  # only the collector finds it
    left, during = weakref.ref(earlier), []
    del earlier
    (gc.enable if enabled else gc.disable)()
    try:
        graph._capture(lambda: during.append((left() is None, gc.isenabled())))
        with contextlib.suppress(KeyError), collected():
            raise KeyError
        assert during == [(True, False)]
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_what_cannot_be_captured_is_named() -> None:
    spec = spec_of("resnet8", exits=2)
    mwbp, cuda = Method(name="mwbp").objective(spec), torch.device("cuda")
    sequential = Method(name="mwbp", update="sequential").objective(spec)
    assert why_eager(mwbp, Options(), cuda, 1) is None
    assert why_eager(mwbp, Options(), CPU, 1) == "no GPU"
    assert why_eager(mwbp, Options(capture=False), cuda, 1) == "--no-capture"
    assert why_eager(sequential, Options(), cuda, 1) == "update sequential"
    assert why_eager(mwbp, Options(), cuda, 2) == "2 processes"
    hook = Hook(regularise=lambda network: None)
    assert why_eager(mwbp, Options(hook=hook), cuda, 1) == "the network is pruned or regularised meanwhile"
