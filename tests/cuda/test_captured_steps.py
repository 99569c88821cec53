"""Steps captured as a CUDA graph are the steps that run eagerly; what cannot be captured runs eagerly after one line.

Blocks are not compiled where results are compared bit for bit: compiled ones add in another order.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compress import Place
from compress.data import Dataset
from compress.recipes import Recipe
from compress.training import Plan, plan_of, train
from compress.training.capture import Steps
from compress.training.loop import Training, fit
from tests.training.step_cases import CASES, KilledError, assert_same, course_of

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("default"),  # compilers and drivers warn of what is no fault of a test
]
FIRST, LAST = 2e-2, 1e-1  # what rounding in bf16 may change in the losses of the first and the twentieth step


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm's statistics are what the steps made of them."""
    monkeypatch.setattr("compress.training.loop.steps_to_settle", lambda network: 0.0)


@pytest.fixture
def synchronised() -> Iterator[None]:
    """Any wait for the GPU is an error."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def captured_plainly(training: Training) -> Training:
    """Capture the steps of an eager training, whose blocks are not compiled."""
    training.stepping = Steps(training.stepping.step, eager=None, plain=training.network)
    return training


def eager(name: str, tiny: Dataset) -> Training:
    return CASES[name].training(tiny, "cuda", capture=False)


@pytest.mark.parametrize("name", CASES)
def test_twenty_replays_are_twenty_eager_steps_to_the_last_bit(name: str, tiny: Dataset) -> None:
    expected, captured = eager(name, tiny), captured_plainly(eager(name, tiny))
    assert_same(course_of(captured), course_of(expected))
    assert captured.stepping.captured


def test_with_compiled_blocks_they_agree_up_to_rounding(tiny: Dataset) -> None:
    case = replace(CASES["mwbp, bf16"], recipe=CASES["mwbp, bf16"].recipe | {"learning_rate": 0.02})
    compiled, expected = (case.training(tiny, "cuda", capture=capture) for capture in (True, False))
    assert compiled.model is not compiled.network
    assert compiled.stepping.way == "steps captured as a CUDA graph, blocks compiled"
    losses: dict[Training, list[torch.Tensor]] = {compiled: [], expected: []}
    for training, found in losses.items():
        for done, batch in zip(range(20), [*training._batches()] * 4, strict=True):
            found.append(training.step(*batch, done=done).clone())
    torch.testing.assert_close(losses[compiled][0], losses[expected][0], rtol=FIRST, atol=0)
    torch.testing.assert_close(losses[compiled][-1], losses[expected][-1], rtol=LAST, atol=0)
    assert compiled.stepping.captured


@pytest.mark.parametrize(("name", "compile"), [("mwbp, bf16", True), ("stochastic depth", False)])
def test_a_resumed_captured_training_is_the_uninterrupted_one(
    name: str, compile: bool, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With compiled blocks, too, as users run it."""
    monkeypatch.setattr("compress.training.loop.pays", lambda network: compile)
    monkeypatch.setattr("compress.training.checkpoints.SECONDS", 0.0)

    def training() -> Training:
        return CASES[name].training(tiny, "cuda")

    def die_in_the_third_epoch(training: Training) -> None:
        if training.epochs_done == 3:
            raise KilledError

    whole = course_of(training())
    with pytest.raises(KilledError):
        fit(training(), title="part", checkpoint=tmp_path, on_epoch=die_in_the_third_epoch)
    resumed = course_of(training(), checkpoint=tmp_path)
    whole.states = whole.states[2:]
    assert_same(resumed, whole)


def test_where_capture_fails_steps_run_eagerly_from_the_same_state(
    tiny: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batch norm without a momentum asks the GPU for the number of batches, which no graph can hold."""
    trainings = [eager("mwbp", tiny), captured_plainly(eager("mwbp", tiny))]
    for training in trainings:
        norm = training.network.heads["3"].get_submodule("0")
        assert isinstance(norm, torch.nn.BatchNorm2d)
        norm.momentum = None
    expected, got = (course_of(training) for training in trainings)
    assert_same(got, expected)
    assert not trainings[1].stepping.captured
    lines = [line for line in capsys.readouterr().err.splitlines() if "could not be captured" in line]
    assert len(lines) == 1


@pytest.mark.parametrize("capture", [True, False])
def test_batches_and_steps_wait_for_nothing(capture: bool, tiny: Dataset, request: pytest.FixtureRequest) -> None:
    training = eager("mwbp", tiny)
    training = captured_plainly(training) if capture else training
    batches = training._batches()
    for done in range(2):
        training.step(*next(batches), done=done)
    request.getfixturevalue("synchronised")
    for done, batch in enumerate(batches, start=2):
        training.step(*batch, done=done)


def test_a_record_says_how_its_steps_ran_and_without_capture_it_is_another_run(
    tiny: Dataset, brief: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.training.loop.pays", lambda network: False)  # compiling takes seconds
    places = [Place(device="cuda", precision="fp32", runs=tmp_path, capture=capture) for capture in (True, False)]
    runs = [train("resnet8", tiny, recipe=brief, place=place) for place in places]
    plans: list[Plan] = [plan_of("resnet8", tiny, recipe=brief, place=place) for place in places]
    assert [run.record.environment["captured"] for run in runs] == [True, False]
    assert [run.record.config.get("capture") for run in runs] == [None, False]
    assert [run.path for run in runs] == [plan.path for plan in plans]
    assert runs[0].id != runs[1].id
    assert runs[1].record.command.count("--no-capture") == 1
