"""`--no-capture`: on a GPU another run, on a CPU none; what a record says; checkpoints and batches on a GPU."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config

from compress import Place
from compress.data import Dataset, Normalisation
from compress.hardware import finish_on, repeatable
from compress.networks import Network, create
from compress.recipes import Recipe
from compress.training import Plan, plan_of, train
from compress.training.batchnorm import reestimate
from compress.training.checkpoints import SECONDS, Checkpoints
from compress.training.compiled import options_on, pays
from compress.training.distributed import World
from compress.training.evaluation import BATCH, evaluated_at_once, predict
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


def test_a_gpu_computes_repeatably_and_without_tf32_while_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn: Any = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "benchmark", True)

    def chosen() -> tuple[bool, bool, str]:
        return cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision

    with repeatable(CPU):
        assert chosen() == (True, False, "tf32")
    with repeatable(CUDA):
        assert chosen() == (False, True, "ieee")
    assert chosen() == (True, False, "tf32")
    finish_on(CPU)


def test_logits_and_statistics_are_computed_as_steps_are(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, computing = [], [False]

    @contextlib.contextmanager
    def repeatable(device: torch.device) -> Iterator[None]:
        computing[0] = True
        yield
        computing[0] = False

    for room in ("evaluation", "batchnorm"):
        monkeypatch.setattr(f"compress.training.{room}.repeatable", repeatable)
    network = create("resnet8", input_shape=tiny.input_shape)
    network.register_forward_hook(lambda *_: asked.append(computing[0]))
    plain = Normalisation(mean=(0.5,), std=(0.25,))
    predict(network, tiny.test, plain)
    reestimate(network, tiny.test, plain)
    assert asked[:2] == [True, True]  # a third one may count MACs


def test_on_a_gpu_the_compiler_gets_options_that_it_knows() -> None:
    options, known = options_on(CUDA), torch._inductor.config.get_config_copy()
    assert options is not None
    assert options.keys() <= known.keys()
    assert (options["deterministic"], options["triton.mix_order_reduction"]) == (True, False)
    assert options_on(CPU) is None


def test_blocks_are_compiled_where_there_are_few_kinds(tiny: Dataset) -> None:
    deep = create("resnet110", input_shape=tiny.input_shape)
    assert pays(deep)
    deep.drop_blocks(0.5)  # every block at a rate of its own
    assert not pays(deep)
    spec = deep.spec
    widths = [replace(block, width=1 + number) for number, block in enumerate(spec.blocks)]
    assert not pays(Network(replace(spec, blocks=tuple(widths))))
