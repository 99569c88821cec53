"""Speed: the harness measures all that it promises, at a tiny size; what the figures are is nobody's business here."""

import contextlib
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.measuring.rounds import SHORTEST, Call
from benchmarks.speed import kernel_limit
from benchmarks.speed.bare_layers import Layer, bare_layers, floor, floor_call
from benchmarks.speed.ratios import ON_CUDA, PARTS, Ratio, measure
from benchmarks.speed.speed_setup import Setup
from benchmarks.speed.usual_trainer import UsualTrainer
from compress.hardware import Precision
from compress.network_cost import cost
from compress.networks import Network, create

CPU = torch.device("cpu")
RATIOS = {
    "mwbp_over_bp",
    "exit_training_over_mwbp",
    "stage_cost_over_mwbp",
    "usual_over_ours",
    "airbench_over_ours",
    "epoch_over_steps",
    "memory_mwbp_over_bp",
    "sequential_over_simultaneous",
    "bp_over_floor",
}


def tiny_setup(**changes: Any) -> Setup:
    tiny: dict[str, Any] = {"arch": "resnet8", "exits": 2, "batch_size": 8, "rounds": 2, "steps": 2, "workers": 0}
    return Setup(**{"device": CPU, "precision": "fp32", **tiny, **changes})


def test_the_ratios_and_their_conditions_are_json() -> None:
    saved: list[set[str]] = []
    results = json.loads(json.dumps(measure(tiny_setup(), lambda found: saved.append(set(found)))))
    environment = results.pop("environment")
    assert results.pop("left_out") == {}
    assert set(results) == RATIOS
    for ratio in results.values():
        assert set(ratio) == {"ratio", "low", "high", "rounds"}
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert {"arch", "exits", "precision", "threads", "cpu", "batch_size", "rounds", "time_limit"} <= set(environment)
    assert environment["compile"] is False
    memory = results["memory_mwbp_over_bp"]
    assert 1 < memory["ratio"] < 1.5
    assert memory["low"] == memory["high"]
    assert [len(found) - 2 for found in saved] == [3, 5, 7, 8, 9]  # after every part, all that there is


def test_when_the_time_is_up_what_was_measured_is_there_and_the_rest_is_named() -> None:
    """No time at all: a part that has begun measures one round, what comes later is left out."""
    setup = tiny_setup(rounds=50, time_limit=0.0)
    until = time.monotonic()
    for part in (PARTS["steps"], PARTS["epochs"]):
        assert {found["rounds"] for found in part(setup, until).values()} == {1}
    results = measure(setup)
    assert set(results) == {"environment", "left_out"}
    assert set(results["left_out"].values()) == {"the 0 s were over"}
    assert set(results["left_out"]) == set(PARTS) - set(ON_CUDA)


def test_what_fails_is_named_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(setup: Setup, until: float) -> dict[str, Ratio]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("benchmarks.speed.ratios.PARTS", {"steps": failing, "memory": PARTS["memory"]})
    monkeypatch.setattr("benchmarks.speed.usual_trainer.importlib.util.find_spec", lambda name: None)
    saved: list[list[str]] = []
    results = measure(tiny_setup(), lambda found: saved.append([*found["left_out"]]))
    assert saved == [["usual_over_ours", "steps"]] * 2  # what failed is saved, too
    assert results["left_out"] == {
        "usual_over_ours": "the usual trainer needs torchvision",
        "steps": "RuntimeError: out of memory",
    }
    assert results["memory_mwbp_over_bp"]["rounds"] == 1


@pytest.mark.parametrize("failing", [False, True])
def test_after_the_epochs_no_loader_is_at_work(failing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a thread of it pins memory, and later parts capture steps."""
    train, started = UsualTrainer.train, list[int]()

    def trained(self: UsualTrainer, steps: int) -> float:
        loss = train(self, steps)
        started.append(len(multiprocessing.active_children()))
        if failing:
            error = RuntimeError("out of memory")  # which knows this frame, as the frame knows it: garbage
            raise error
        return loss

    monkeypatch.setattr(UsualTrainer, "train", trained)
    left: list[int] = []

    def later(setup: Setup, until: float) -> dict[str, Ratio]:
        left.append(len(multiprocessing.active_children()))
        return {}

    monkeypatch.setattr("benchmarks.speed.ratios.PARTS", {"epochs": PARTS["epochs"], "later": later})
    results = measure(tiny_setup(workers=1))
    assert ("epochs" in results["left_out"]) is failing
    assert started[0] == 1
    assert left == [0]


def test_what_is_promised_comes_before_what_is_merely_of_interest() -> None:
    """Where time is short, the parts at the end are left out."""
    assert [*PARTS][:3] == ["epochs", "capture", "steps"]


def test_calls_on_a_gpu_are_repeated_so_that_the_host_is_not_what_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, float]] = []

    def interleaved(calls: list[Call], **options: Any) -> tuple[np.ndarray, None]:
        given.append((options["warm_up"], options["shortest"]))
        return np.ones((1, len(calls))), None

    monkeypatch.setattr("benchmarks.speed.speed_setup.interleaved", interleaved)
    for device in ("cpu", "cuda"):
        found = tiny_setup(device=torch.device(device)).seconds({"nothing": list}, math.inf)
        assert found["nothing"].tolist() == [1]
    assert given == [(0, 0.0), (1, SHORTEST)]


class Profiled:
    """What a profiler saw where CUPTI is missing: nothing on the GPU."""

    def events(self) -> list[object]:
        return []


def test_what_is_measured_on_cuda_alone_runs_and_divides_by_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the steps of both sides are eager; the count of kernels and their time are made up."""
    counted: list[Call] = []

    def kernels_of(call: Call, device: torch.device) -> int:
        counted.append(call)
        return 500

    monkeypatch.setattr("benchmarks.speed.ratios.seconds_a_kernel", lambda device: 2e-6)
    monkeypatch.setattr("benchmarks.speed.ratios.kernels_of", kernels_of)
    setup, seconds = tiny_setup(), np.array([0.002, 0.003, 0.004])
    monkeypatch.setattr(Setup, "seconds", lambda self, calls, until: dict.fromkeys(calls, seconds))
    found = PARTS["capture"](setup, math.inf)
    assert found["over_kernel_limit"] == {"ratio": 3.0, "low": 2.5, "high": 3.5, "rounds": 3}
    assert found["captured_over_eager"]["ratio"] == 1
    assert len(counted) == 1
    monkeypatch.setattr("benchmarks.speed.kernel_limit.profile", lambda **_: contextlib.nullcontext(Profiled()))
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: None)
    monkeypatch.setattr("benchmarks.speed.ratios.kernels_of", kernel_limit.kernels_of)
    assert [*PARTS["capture"](setup, math.inf)] == ["captured_over_eager"]  # where the profiler sees nothing
    assert PARTS["captured memory"](setup, math.inf)["memory_captured_over_eager"]["ratio"] == pytest.approx(
        1, abs=0.01
    )


def test_the_floor_is_laid_out_as_a_step_is_and_replayed_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Call] = []
    replayed: list[str] = []

    class Graph:
        def __init__(self, device: torch.device) -> None:
            assert device.type == "cuda"

        def record(self, function: Call) -> None:
            recorded.append(function)
            function()

        def replay(self) -> None:
            replayed.append("once")

    monkeypatch.setattr("benchmarks.speed.bare_layers.CudaGraph", Graph)
    given: dict[str, Call] = {}

    def seconds(self: Setup, calls: dict[str, Call], until: float) -> dict[str, np.ndarray]:
        given.update(calls)
        return dict.fromkeys(calls, np.ones(1))

    monkeypatch.setattr(Setup, "seconds", seconds)
    laid_out: list[bool] = []

    def bare(network: Network, images: torch.Tensor, precision: Precision) -> list[Layer]:
        convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
        laid_out.extend(each.weight.is_contiguous(memory_format=torch.channels_last) for each in convolutions)
        return bare_layers(network, images, precision)

    monkeypatch.setattr("benchmarks.speed.ratios.bare_layers", bare)
    PARTS["updates"](tiny_setup(), math.inf)
    given["floor"]()
    assert len(laid_out) > 6
    assert all(laid_out)
    assert not recorded
    layers = bare_layers(create("resnet8"), torch.zeros(2, 3, 32, 32), "fp32")
    floor_call(layers, torch.device("cuda"))()
    assert (len(recorded), replayed) == (1, ["once"])


def test_it_runs_where_little_is_installed(tmp_path: Path) -> None:
    """As `python -m benchmarks.gpu` does: without cyclopts, pandas, scipy, torchvision and others."""
    root = Path(__file__).parents[3]
    shutil.copyfile(root / "tests" / "benchmarks" / "gpu" / "bare_python.py", tmp_path / "sitecustomize.py")
    program = """
import torch
from benchmarks.speed import kernel_limit
from benchmarks.speed.ratios import PARTS, measure
from benchmarks.speed.speed_setup import Setup
memory = PARTS["memory"]
PARTS.clear()
PARTS["memory"] = memory
found = measure(Setup(arch="resnet8", exits=2, device=torch.device("cpu"), precision="fp32", batch_size=4))
print([*found], found["left_out"])
"""
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    left_out = {"usual_over_ours": "the usual trainer needs torchvision"}
    assert done.stdout.strip() == f"{['environment', 'left_out', 'memory_mwbp_over_bp']} {left_out}", done.stderr


@pytest.mark.parametrize("arch", ["resnet8", "resnet44", "resnet20v1"])
def test_the_floor_is_made_of_the_networks_layers(arch: str) -> None:
    network = create(arch)
    layers = bare_layers(network, torch.zeros(2, 3, 32, 32), "fp32")
    macs = [layer.gradient[0].numel() * math.prod(layer.module.weight.shape[1:]) for layer in layers]
    assert sum(macs) == cost(network).macs
    gradients = floor(layers)[::-1]
    assert [len(found) for found in gradients] == [1, *[2] * (len(layers) - 1)]  # images have none
    for layer, (of_weight, *of_inputs) in zip(layers, gradients, strict=True):
        assert of_weight.shape == layer.module.weight.shape
        assert [gradient.shape for gradient in of_inputs] in ([], [layer.inputs.shape])
