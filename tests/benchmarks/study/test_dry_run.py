"""Plans: which runs are finished, which wait for which, how long is left; and two processes at one study."""

import dataclasses
import multiprocessing
import multiprocessing.synchronize
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import DEFAULT, patch

import pytest

from benchmarks import Setting, plan_study, read_study, run_study
from benchmarks.study.clock import Clock
from benchmarks.study.dry_run import StudyPlan
from benchmarks.study.estimates import Estimates
from benchmarks.study.graph import Node, graph
from benchmarks.study.runner import Session
from compress import Place, Start
from compress.data import Dataset, Labelled
from compress.network_cost import exit_costs
from compress.networks import Spec, create, initialised
from compress.recipes import Recipe
from compress.records import Record
from compress.runs import Run
from compress.training import execution, train
from compress.training.loop import Training

STUDY = """
title = "Planned"
about = "A study of a test."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
reference = "deep"

[[run]]
name = "deep"
command = "train"
arch = "resnet14"

[[run]]
name = "multi"
command = "train-mwbp"
arch = "resnet8"
exits = 2

[[run]]
name = "l1"
command = "prune"
arch = "resnet14"
match = "multi:1"

[[run]]
name = "depth"
command = "prune"
from = "l1"
method = "depth-cut"
nearest = true
speedup = [1.3, 2]
"""
FROZEN = """
title = "Frozen"
about = "A study of a test."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
reference = "plain"

[[run]]
name = "plain"
command = "train"
arch = "resnet8"

[[run]]
name = "frozen"
command = "train-mwbp"
arch = "resnet8"
exits = 2
method = "frozen-trunk"
"""
TUNED = STUDY + "\n[tuning]\nrates = [1, 3]\nat = 1\n"
Event = multiprocessing.synchronize.Event
Settings = Callable[..., Setting]


@pytest.fixture(scope="module")
def coarse(tiny: Dataset) -> Dataset:
    """Every third pixel of every third row: 10x10."""
    train, test = (
        Labelled(images=part.images[..., ::3, ::3].contiguous(), labels=part.labels) for part in (tiny.train, tiny.test)
    )
    return dataclasses.replace(tiny, name="coarse", train=train, test=test)


@pytest.fixture
def settings(coarse: Dataset, brief: Recipe, tmp_path: Path) -> Settings:
    def make(text: str = STUDY) -> Setting:
        (tmp_path / "study.toml").write_text(text)
        study = read_study(str(tmp_path / "study.toml"))
        return Setting(
            study=study, dataset=coarse, recipe=brief, device="cpu", precision="fp32", runs=tmp_path / "runs"
        )

    return make


def _states(plan: StudyPlan) -> dict[str, str]:
    return {str(one.node): one.state for one in plan.runs}


def test_a_plan_says_what_is_finished_and_what_waits_for_what(
    settings: Settings, coarse: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    setting = settings()
    assert _states(plan_study(setting)) == {
        "deep, seed 0": "to run",
        "multi, seed 0": "to run",
        "l1 at match multi:1, seed 0": "waits for multi and deep",
        "depth at speedup 1.3, seed 0": "waits for l1",
        "depth at speedup 2, seed 0": "waits for l1",
    }
    assert not (tmp_path / "runs").exists()
    multi = train(
        "resnet8", coarse, method="mwbp", exits=2, recipe=brief, place=Place(precision="fp32", runs=tmp_path / "runs")
    )
    plan = plan_study(setting)
    assert [one.state for one in plan.runs[:3]] == ["to run", "finished", "waits for deep"]
    assert plan.summary().startswith("5 runs, 1 finished, 4 left: about ")
    assert "a guess" in plan.summary()
    assert plan.summary().endswith("1 seed of 3 or more: what it finds will be preliminary")
    document = plan.to_json()
    assert (document["left"], document["runs"][1]["id"], document["runs"][1]["seconds"]) == (4, multi.id, 0)
    assert document["seconds"] == sum(row["seconds"] for row in document["runs"])
    assert document["runs"][2]["waits_for"] == ["deep"]
    assert list(plan.table()["about"])[1] == "-"


def test_a_run_by_another_configuration_is_not_taken_for_the_studys(
    settings: Settings, coarse: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    for seed, epochs, precision in ((1, 1, "fp32"), (0, 2, "fp32")):
        recipe = brief.changed(epochs=epochs)
        train("resnet14", coarse, seed=seed, recipe=recipe, place=Place(precision=precision, runs=tmp_path / "runs"))
    assert plan_study(settings()).runs[0].state == "to run"


def test_exits_on_another_trunk_are_not_taken_for_the_studys(
    settings: Settings, coarse: Dataset, brief: Recipe, tmp_path: Path
) -> None:
    setting = settings(FROZEN)
    place = Place(precision="fp32", runs=tmp_path / "runs")

    def frozen(trunk: Run) -> Run:
        method = "frozen-trunk"
        return train(
            "resnet8", coarse, method=method, exits=2, recipe=brief, start=Start(trunk=trunk.path), place=place
        )

    for seed, epochs in ((1, 1), (0, 2)):
        frozen(train("resnet8", coarse, seed=seed, recipe=brief.changed(epochs=epochs), place=place))
    assert _states(plan_study(setting)) == {"plain, seed 0": "to run", "frozen, seed 0": "to run"}
    own = frozen(train("resnet8", coarse, recipe=brief, place=place))
    assert [one.state for one in plan_study(setting).runs] == ["finished", "finished"]
    assert plan_study(setting).to_json()["runs"][1]["id"] == own.id


def test_runs_wait_for_the_trials_of_their_entry(settings: Settings) -> None:
    states = _states(plan_study(settings(TUNED)))
    assert states["l1 at match multi:1, seed 0, rate x3"] == "waits for multi and deep"
    assert states["depth at speedup 1.3, seed 0"] == "waits for l1"
    assert states["depth at speedup 2, seed 0"] == "waits for l1 and trials of depth"
    assert len(states) == 2 + 2 + 2 + 1


def test_bundled_studies_put_every_run_behind_what_it_starts_from() -> None:
    for name in ("quickstart", "pruning"):
        nodes = graph(read_study(name))
        assert len(set(nodes)) == len(nodes)
        for position, node in enumerate(nodes):
            assert set(node.parents) <= {before.entry.name for before in nodes[:position]}


EVERY = """
[[run]]
name = "sparse"
command = "prune"
from = "deep"
method = "bn-scale"
speedup = [1.5, 2]

[[run]]
name = "sensitive"
command = "prune"
from = "deep"
allocate = "sensitivity"
speedup = 2

[[run]]
name = "steps"
command = "prune"
from = "deep"
steps = 3
speedup = 2

[[run]]
name = "scratch"
command = "prune"
from = "deep"
method = "scratch-b"
speedup = 2

[[run]]
name = "taught"
command = "prune"
arch = "resnet20"
method = "distilled"
nearest = true
speedup = 2
"""


def test_what_is_foreseen_counts_all_that_a_run_takes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is taken to last as many seconds as the network's last exit has MACs."""

    def macs(spec: Spec, *_: object, **__: object) -> int:
        return exit_costs(initialised(spec, 0))[-1].macs

    monkeypatch.setattr("benchmarks.study.estimates.image_seconds", macs)
    setting = settings(STUDY + EVERY)
    setting = dataclasses.replace(setting, recipe=setting.recipe.changed(epochs=2))
    nodes = graph(setting.study)
    foreseen = Estimates(setting=setting).seconds(nodes, left=nodes)
    once = {str(node).removesuffix(", seed 0"): seconds or 0 for node, seconds in foreseen.items()}
    deep, multi, early, taught = (
        exit_costs(create(arch, exits=exits, input_shape=setting.dataset.input_shape))[number].macs
        for arch, exits, number in (("resnet14", 1, 0), ("resnet8", 2, 1), ("resnet8", 2, 0), ("resnet20", 1, 0))
    )
    # 180 images to train on, 10 for validation, 10 for calibration and 100 for the test; a forward pass is a third.
    trained, tuned = 2 * (180 + 10 / 3) + 120 / 3, 180 + 10 / 3 + 120 / 3
    mended = (180 + 10) / 3  # batch norm re-estimated, and validated before fine-tuning
    assert once["deep"] == pytest.approx(trained * deep)
    assert once["multi"] == pytest.approx(trained * multi)
    near = partial(pytest.approx, rel=0.15)  # uniform widths jump
    assert once["l1 at match multi:1"] == near((tuned + mended) * early + 10 / 3 * deep)
    half = (tuned + mended) * deep / 2 + 10 / 3 * deep
    assert once["sparse at speedup 2"] == near(half)
    assert once["sparse at speedup 1.5"] == near((tuned + mended) * deep / 1.5 + 10 / 3 * deep + tuned * deep)
    assert once["sensitive at speedup 2"] == near(half + 9 * 4 * (180 + 10) / 3 * deep)  # 3 stages, 6 blocks
    assert once["steps at speedup 2"] == near(3 * (2 / 3 * half + 1 / 3 * (tuned + mended + 10 / 3) * deep))
    scratch = (180 / 3 + 4 * (180 + 10 / 3) + 120 / 3) * deep / 2
    assert once["scratch at speedup 2"] == near(scratch)
    reference = trained * taught  # which no entry trains
    assert once["taught at speedup 2"] == near(trained * taught / 2 + 2 * 180 / 3 * taught + reference)
    later = Estimates(setting=setting).seconds(nodes, left=nodes[-1:])
    assert later == {nodes[-1]: foreseen[nodes[-1]]}


def test_what_is_left_follows_the_pace_at_which_runs_come_out(settings: Settings) -> None:
    run = Run(Path("made"), cast(Record, None))
    one, other, last, *_ = graph(settings().study)
    clock = Clock(foreseen={one: 10.0, other: 20.0, last: 40.0}, started=time.monotonic() - 60)
    assert clock.left({}) == 70
    assert clock.pace({other: None}) is None  # what could not be made took no time
    assert clock.left({other: None}) == 50
    assert clock.left({one: run}) == pytest.approx(6 * 60, rel=0.01)
    assert clock.left({one: run, other: run}) == pytest.approx(2 * 40, rel=0.01)


def _unreported() -> Any:
    """While this is entered, nothing is timed or reported: both have tests of their own."""
    return patch.multiple("benchmarks.study.runner", bench=DEFAULT, write_report=DEFAULT)


def _first(setting: Setting, out: Path, begun: Event, go: Event) -> None:
    """A study that stays in its first run, which it holds, until it may go on."""
    write = execution._write_metrics

    def held(run: Run, training: Training) -> None:
        begun.set()
        assert go.wait(300)
        write(run, training)

    with patch.object(execution, "_write_metrics", held), _unreported():
        out.write_text(" ".join(run.id for run in run_study(setting, out=out)))


def test_two_processes_at_one_study_share_its_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setting, context = settings(), multiprocessing.get_context("spawn")
    begun, go = context.Event(), context.Event()
    process = context.Process(target=_first, args=(setting, tmp_path / "first", begun, go))
    wait = Session._wait

    def waiting(self: Session, held: Mapping[Node, Path]) -> dict[Node, Path]:
        """By now all that does not need the run held has been made here."""
        made = [str(node) for node in self.ledger.outcomes]
        assert made == ["multi, seed 0"] or go.is_set()
        go.set()
        return wait(self, held)

    monkeypatch.setattr(Session, "_wait", waiting)
    process.start()
    try:
        assert begun.wait(300)
        with _unreported():
            made = [run.id for run in run_study(setting, out=tmp_path)]
    finally:
        go.set()
        process.join()
    assert process.exitcode == 0
    assert made == (tmp_path / "first").read_text().split()
    err = capsys.readouterr().err
    assert f"deep, seed 0: left to the process that holds {setting.runs / made[0]}" in err
    assert f"waiting for another process, which makes {made[0]}" in err
    assert "did not run" not in err
    assert err.splitlines()[1].startswith("5 runs, 0 finished, 5 left: about ")
    begun_here = [line for line in err.splitlines() if line.startswith("[")]
    assert re.match(r"\[1/5\] deep, seed 0; about .*, a guess, left for all$", begun_here[0])
    assert re.match(r"\[\d/5\] .*, seed 0; about [^,]* left for all$", begun_here[-1])
    plan = plan_study(setting)
    assert [one.run.id for one in plan.runs if one.run] == made
    assert plan.summary().startswith("5 runs, 5 finished, 0 left; ")
    assert Session.of(setting).ledger.left == []
