"""`--no-capture`: on a GPU another run, on a CPU none; what a record says; checkpoints and batches on a GPU."""

import json
import time
from pathlib import Path

import pytest
import torch

from compress import Place
from compress.data import Dataset
from compress.hardware import finish_on, repeatable
from compress.recipes import Recipe
from compress.training import Plan, plan_of, train
from compress.training.checkpoints import SECONDS, due
from compress.training.evaluation import BATCH, evaluated_at_once
from tests.conftest import Command

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def plan(tiny: Dataset, runs: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device, *, capture: bool) -> Plan:
    monkeypatch.setattr("compress.training.planning.resolve_device", lambda name: device)
    return plan_of("resnet8", tiny, place=Place(runs=runs, precision="fp32", capture=capture))


def test_without_capture_it_is_another_run_on_a_gpu_alone(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = {
        (device.type, capture): plan(tiny, tmp_path, monkeypatch, device, capture=capture)
        for device in (CPU, CUDA)
        for capture in (True, False)
    }
    names = {key: plan.path.name for key, plan in plans.items()}
    assert names["cpu", True] == names["cpu", False] == names["cuda", True]  # hardware is no part of a configuration
    assert names["cuda", False] != names["cuda", True]
    assert [key for key, plan in plans.items() if "capture" in plan.config] == [("cuda", False)]
    assert [plan.command.count(" --no-capture") for plan in plans.values()] == [0, 1, 0, 1]


def test_a_cpu_has_one_way_and_says_nothing_of_it(
    tiny: Dataset, brief: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("resnet8", tiny, recipe=brief, place=Place(device="cpu", runs=tmp_path))
    assert (run.record.environment["captured"], run.record.environment["compiled"]) == (False, False)
    assert "captured" not in capsys.readouterr().err


def test_the_option_is_that_of_the_command(tiny_folder: Path, tmp_path: Path, compress: Command) -> None:
    words = ["--arch", "resnet8", "--dataset", f"folder:{tiny_folder}", "--epochs", "1", "--batch-size", "60"]
    status, _, err = compress("train", *words, "--runs", tmp_path, "--no-capture")
    assert status == 0, err
    [record] = tmp_path.glob("*/run.json")
    assert " --no-capture " in json.loads(record.read_text())["command"]


def test_a_gpu_gets_checkpoints_by_time_and_larger_batches_of_small_images() -> None:
    assert due(time.monotonic(), CPU)
    assert not due(time.monotonic(), CUDA)
    assert due(time.monotonic() - SECONDS - 1, CUDA)
    assert evaluated_at_once(CPU, (3, 32, 32)) == evaluated_at_once(CUDA, (3, 224, 224)) == BATCH
    assert evaluated_at_once(CUDA, (3, 32, 32)) == 1953


def test_algorithms_are_repeatable_on_a_gpu_while_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)
    with repeatable(CPU):
        assert (cudnn.benchmark, cudnn.deterministic) == (True, False)
    with repeatable(CUDA):
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
    assert (cudnn.benchmark, cudnn.deterministic) == (True, False)
    finish_on(CPU)
