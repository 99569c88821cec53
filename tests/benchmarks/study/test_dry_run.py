"""Dry runs: which runs are finished, which wait for which, and how long is left."""

import dataclasses
import shutil
import time
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from benchmarks import plan_study
from benchmarks.study import outcomes as outcomes_module
from benchmarks.study.dry_run import StudyPlan
from benchmarks.study.estimate import seconds_left
from benchmarks.study.graph import Node, graph
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.runner import Runner
from benchmarks.study.setting import image_macs
from compress import Place, Start
from compress.data import Dataset
from compress.network_cost import exit_costs
from compress.networks import Spec, create, spec_of
from compress.recipes import Recipe
from compress.records import Record
from compress.runs import Run
from compress.training import Objective, image_seconds, train
from compress.training.loop import Training
from compress.training.objectives import bp
from compress.training.training_time import LEAST, MOST_MACS
from tests.benchmarks.study.conftest import DEEP, HEAD, MULTI, Settings

STUDY = f"""
{HEAD}
run = [
    {DEEP},
    {MULTI},
    {{name = "l1", command = "prune", arch = "resnet8", match = "multi:1"}},
    {{name = "depth", command = "prune", from = "l1", method = "depth-cut", nearest = true, speedup = [1.3, 2]}},
]
"""
FROZEN = f"""
{HEAD}
run = [
    {DEEP},
    {{name = "frozen", command = "train-mwbp", arch = "resnet8", exits = 2, method = "frozen-trunk"}},
]
"""


def _states(plan: StudyPlan) -> dict[str, str]:
    table = plan.table()
    return dict(zip(table["run"].str.removesuffix(", seed 0"), table["state"], strict=True))


def test_a_plan_says_what_is_finished_and_what_waits_for_what(
    settings: Settings, made: list[Run], tmp_path: Path
) -> None:
    setting = settings(STUDY, tmp_path / "runs")
    assert _states(plan_study(setting)) == {
        "deep": "to run",
        "multi": "to run",
        "l1 at match multi:1": "waits for deep and multi",
        "depth at speedup 1.3": "waits for l1",
        "depth at speedup 2": "waits for l1",
    }
    assert not (tmp_path / "runs").exists()
    multi = next(run for run in made if run.record.method == "mwbp" and run.record.seed == 0)
    shutil.copytree(multi.path, tmp_path / "runs" / multi.id)
    plan = plan_study(setting)
    assert list(_states(plan).values())[:3] == ["to run", "finished", "waits for deep"]
    assert plan.summary().startswith("5 runs, 1 finished, 4 left: about ")
    assert "a guess" in plan.summary()
    assert plan.summary().endswith("1 seed of 3 or more: what it finds will be preliminary")
    document = plan.to_json()
    assert (document["left"], document["runs"][1]["id"], document["runs"][1]["seconds"]) == (4, multi.id, 0)
    assert document["seconds"] == pytest.approx(sum(row["seconds"] for row in document["runs"]))
    assert document["runs"][2]["waits_for"] == ["deep"]
    assert list(plan.table()["about"])[1] == "-"


def test_runs_of_another_configuration_are_not_taken_for_the_studys(
    settings: Settings, made: list[Run], brief: Recipe, place: Path
) -> None:
    for text, recipe in ((STUDY, brief.changed(epochs=2)), (f"seeds = [2]\n{STUDY}", brief)):
        assert "finished" not in _states(plan_study(settings(text, place / "runs", recipe=recipe))).values()


def test_exits_on_another_trunk_are_not_taken_for_the_studys(
    settings: Settings, made: list[Run], coarse: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    setting = settings(FROZEN, tmp_path)
    trunks = sorted((run for run in made if run.record.method == "bp"), key=lambda run: -run.record.seed)
    for trunk, state in zip(trunks, ("waits for deep", "finished"), strict=True):  # of seed 1, then of the study's
        shutil.copytree(trunk.path, tmp_path / trunk.id)
        start, place = Start(trunk=trunk.path), Place(device="cpu", precision="fp32", runs=tmp_path)
        train("resnet8", coarse, method="frozen-trunk", exits=2, recipe=brief, start=start, place=place)
        assert _states(plan_study(setting))["frozen"] == state


def test_a_finished_run_is_found_whose_source_stands_behind_it(
    settings: Settings, made: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What claims name comes first; the plain network that an architecture's pruning starts from need not be named."""
    cut = '{name = "cut", command = "prune", arch = "resnet8", speedup = 1.5}'
    text = (
        HEAD.replace('reference = "deep"', 'reference = "multi"')
        + f'primary = ["multi", "cut"]\nrun = [{MULTI}, {DEEP}, {cut}]'
    )
    outcomes = Outcomes(setting=settings(text, tmp_path))
    assert [str(node).partition(" at ")[0] for node in outcomes.nodes] == ["multi, seed 0", "cut", "deep, seed 0"]
    monkeypatch.setattr(outcomes_module, "finished_runs", lambda runs: (made, []))
    monkeypatch.setattr(Outcomes, "_found", lambda self, node, runs: made[0])
    outcomes.find()
    assert not outcomes.left


def test_exits_on_a_frozen_trunk_wait_for_the_entry_that_trains_it(settings: Settings, tmp_path: Path) -> None:
    outcomes = Outcomes(setting=settings(FROZEN, tmp_path))
    [deep, frozen] = outcomes.nodes
    assert (outcomes.waits_for(frozen), outcomes.behind(frozen)) == (["deep"], [deep])
    other = FROZEN.replace('arch = "resnet8"}', 'arch = "resnet8", label_smoothing = 0.1}')  # another recipe
    outcomes = Outcomes(setting=settings(other, tmp_path))
    assert not outcomes.waits_for(outcomes.nodes[1])


def test_runs_wait_for_the_trials_of_their_entry(settings: Settings, tmp_path: Path) -> None:
    states = _states(plan_study(settings(f"{STUDY}\n[tuning]\nrates = [1, 3]\nat = 1\n", tmp_path / "runs")))
    assert states["l1 at match multi:1, seed 0, rate x3"] == "waits for deep and multi"
    assert states["depth at speedup 1.3"] == "waits for l1"
    assert states["depth at speedup 2"] == "waits for l1 and trials of depth"
    assert len(states) == 2 + 2 + 2 + 1


def test_seconds_are_training_macs_times_seconds_a_mac(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = """
    {name = "steps", command = "prune", from = "deep", steps = 3, speedup = 2},
    {name = "scratch", command = "prune", from = "deep", method = "scratch-e", speedup = 4},
    {name = "small", command = "prune", from = "multi:1", params = 500},
    """
    setting = settings(STUDY.replace("\n]", extra + "\n]"), tmp_path)
    setting = dataclasses.replace(setting, recipe=setting.recipe.changed(epochs=2))
    [deep] = exit_costs(create("resnet8", input_shape=setting.dataset.input_shape))
    monkeypatch.setattr("benchmarks.study.estimate.image_seconds", lambda *_, **__: 3.0 * deep.macs)  # a second a MAC
    nodes = graph(setting.study)
    seconds = {str(node).removesuffix(", seed 0"): value for node, value in seconds_left(setting, nodes).items()}
    step = 180 * 3  # training images, and forward passes whose MACs a step costs
    early, late = exit_costs(create("resnet8", exits=2, input_shape=setting.dataset.input_shape))
    assert seconds["deep"] == 2 * step * deep.macs
    assert seconds["multi"] > 2 * step * late.macs
    assert seconds["l1 at match multi:1"] == step * early.macs
    assert seconds["depth at speedup 2"] == step * early.macs / 2
    assert seconds["steps at speedup 2"] == 3 * step * deep.macs / 2
    assert seconds["scratch at speedup 4"] == 2 * step * deep.macs / 4
    assert seconds["small at params 500"] == step * early.macs


def test_every_kind_of_network_is_timed_and_what_is_made_from_it_has_its_pace(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"""
    {HEAD}
    run = [
        {DEEP},
        {MULTI},
        {{name = "large", command = "train", arch = "resnet20"}},
        {{name = "l1", command = "prune", from = "large", match = "deep"}},
        {{name = "taught", command = "prune", from = "large", method = "distilled", nearest = true, match = "deep"}},
        {{name = "long", command = "prune", from = "large", method = "scratch-b", match = "deep"}},
    ]
    """
    setting = settings(text, tmp_path)
    timed: list[str] = []

    def seconds_an_image(spec: Spec, objective: Objective, *_: object, **__: object) -> float:
        """A second a MAC of ResNet-8, and two of ResNet-20."""
        timed.append(spec.arch)
        return {"resnet8": 1.0, "resnet20": 2.0}[spec.arch] * image_macs(spec, objective)

    monkeypatch.setattr("benchmarks.study.estimate.image_seconds", seconds_an_image)
    nodes = graph(setting.study)
    seconds = {node.entry.name: value for node, value in seconds_left(setting, nodes).items()}
    small, large = (
        exit_costs(create(name, input_shape=setting.dataset.input_shape))[0].macs for name in ("resnet8", "resnet20")
    )
    assert timed == ["resnet8", "resnet20"]  # not again for the exits of a trunk
    assert seconds["deep"] == 180 * 3 * small
    assert seconds["large"] == 180 * 3 * large * 2
    assert seconds["l1"] == 180 * 3 * small * 2
    assert seconds["taught"] == 180 * (3 * small + large)  # by the pace of what it is matched with
    assert seconds["long"] == min(round(large / small), 4) * 180 * 3 * small * 2
    monkeypatch.setattr("benchmarks.study.estimate.PATIENCE", -1.0)
    hasty = {node.entry.name: value for node, value in seconds_left(setting, nodes).items()}
    assert timed[2:] == ["resnet8"]
    assert hasty["large"] == 180 * 3 * large


def test_steps_are_timed_in_the_recipes_batches_unless_a_network_is_large(
    coarse: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, images = spec_of("resnet8", input_shape=coarse.input_shape), list[int]()
    step = Training.step

    def counted(training: Training, batch: Tensor, labels: Tensor, *, done: int) -> Tensor:
        images.append(len(batch))
        return step(training, batch, labels, done=done)

    monkeypatch.setattr(Training, "step", counted)
    for most in (MOST_MACS, 30 * image_macs(spec, bp(spec)), 1.0):
        monkeypatch.setattr("compress.training.training_time.MOST_MACS", most)
        assert image_seconds(spec, bp(spec), brief, device=torch.device("cpu"), precision="fp32") > 0
    assert list(dict.fromkeys(images)) == [brief.batch_size, 30, LEAST]


def test_what_is_left_follows_the_pace_at_which_runs_come_out(settings: Settings, tmp_path: Path) -> None:
    run = Run(Path("made"), cast(Record, None))
    setting = settings(STUDY, tmp_path)
    first, second, third, *_ = graph(setting.study)
    seconds = {first: 10.0, second: 20.0, third: 40.0}
    runner = Runner(outcomes=Outcomes(setting=setting), seconds=seconds, started=time.monotonic() - 60)
    cases: list[tuple[dict[Node, Run | None], str]] = [
        ({}, "1 min 10 s, a guess,"),
        ({second: None}, "50 s, a guess,"),  # what could not be made took no time
        ({first: run}, "6 min"),
        ({first: run, second: run}, "1 min 20 s"),
    ]
    for made, expected in cases:
        runner.outcomes.runs = made
        assert runner.time_left().startswith(expected)
