"""`--no-capture`: on a GPU another run, on a CPU none; what a record says; checkpoints and batches on a GPU."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import Place
from compress.data import Dataset
from compress.hardware import finish_on, repeatable
from compress.networks import Network, create
from compress.recipes import Recipe
from compress.training import Plan, plan_of, train
from compress.training.checkpoints import SECONDS, Checkpoints
from compress.training.compiled import pays
from compress.training.distributed import World
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


@pytest.mark.parametrize(("device", "saved"), [(CPU, [1, 2, 3, 4]), (CUDA, [1, 3, 4])])
def test_a_gpu_gets_checkpoints_by_time(
    device: torch.device, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("compress.training.checkpoints.time.monotonic", lambda: now)
    found, checkpoints = [], Checkpoints(tmp_path, World(), device)
    assert not checkpoints.restore(lambda state: None)
    for state, later, last in ((1, 0.0, True), (2, 1.0, False), (3, SECONDS, False), (4, 1.0, True)):
        now += later
        checkpoints.keep(partial(dict[str, Any], state=state), last=last)
        Checkpoints(tmp_path, World(), device).restore(lambda state: found.append(state["state"]))
    assert sorted(set(found)) == saved


def test_small_images_are_evaluated_in_larger_batches_on_a_gpu() -> None:
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


def test_blocks_are_compiled_where_there_are_few_kinds(tiny: Dataset) -> None:
    deep = create("resnet110", input_shape=tiny.input_shape)
    assert pays(deep)
    deep.drop_blocks(0.5)  # every block at a rate of its own
    assert not pays(deep)
    spec = deep.spec
    widths = [replace(block, width=1 + number) for number, block in enumerate(spec.blocks)]
    assert not pays(Network(replace(spec, blocks=tuple(widths))))
