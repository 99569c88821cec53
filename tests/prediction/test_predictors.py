"""Predictions of files are those that the run stored of the same test images, whatever the files are like."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import compress
from compress import Prediction, UsageError, find_run, predictor
from compress.inference import simulate
from compress.runs import WEIGHTS, write_json
from tests.prediction.conftest import CLASSES, Trained, halving

Train = Callable[..., Trained]


def check(predictions: list[Prediction], trained: Trained, *, exit: int) -> None:
    """Compare predictions with those stored."""
    stored = trained.probabilities(exit)
    assert [each.path for each in predictions] == sorted(trained.test.rglob("*.*"))
    assert [each.label for each in predictions] == [CLASSES[label] for label in stored.argmax(axis=1)]
    assert [each.exit for each in predictions] == [exit] * len(stored)
    assert [each.probability for each in predictions] == pytest.approx(stored.max(axis=1), abs=trained.rounding)
    assert np.ptp(stored.max(axis=1)) > 4 * trained.rounding  # other images would be seen


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("resized", [False, True])
def test_predictions_of_files_are_those_that_the_run_stored(trained: Train, *, grey: bool, resized: bool) -> None:
    given = trained(grey=grey, resized=resized)
    assert given.run.spec.input_shape == (1 if grey else 3, 16, 16)
    check(list(predictor(given.run).predict(given.test)), given, exit=2)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (5, 2), (32, 3)])
def test_batches_and_workers_change_nothing(trained: Train, batch_size: int, workers: int) -> None:
    given = trained()
    predicts = predictor(given.run, batch_size=batch_size, workers=workers, threads=2)
    check(list(predicts.predict([given.test])), given, exit=2)
    check(list(predicts.predict([given.test / label for label in CLASSES])), given, exit=2)


def test_an_exit_answers_as_the_network_cut_there(trained: Train) -> None:
    given = trained()
    check(list(predictor(given.run, exit=1).predict(given.test)), given, exit=1)
    check(list(predictor(f"{given.run.path}:1").predict(given.test)), given, exit=1)


def test_images_leave_early_as_in_the_simulation_of_the_stored_logits(trained: Train) -> None:
    given = trained()
    policy = halving(given)
    predictions = list(predictor(given.run, policy=policy, batch_size=5).predict(given.test))
    expected = simulate(given.logits, policy)
    assert {each.exit for each in predictions} == {1, 2}
    assert [each.exit for each in predictions] == expected.exits.tolist()
    assert [each.label for each in predictions] == [CLASSES[label] for label in expected.labels]
    probabilities = [each.probability for each in predictions]
    assert probabilities == pytest.approx(expected.probabilities.max(axis=1), abs=given.rounding)
    with pytest.raises(UsageError, match="exit 1 and early exit by a policy: give one of them"):
        predictor(given.run, exit=1, policy=policy)
    with pytest.raises(UsageError, match="chosen for other weights"):
        predictor(given.run, policy=dataclasses.replace(policy, weights="0" * 64))


def test_unreadable_files_are_left_out_named_and_nothing_else_is(trained: Train, tmp_path: Path) -> None:
    given = trained()
    good = sorted(given.test.rglob("*.*"))
    (broken := tmp_path / "broken.jpg").write_bytes(next(p for p in good if p.suffix == ".jpg").read_bytes()[:200])
    files = [good[0], broken, good[1], tmp_path / "missing.png", *good[2:]]
    problems: list[UsageError] = []
    check(list(predictor(given.run, batch_size=2).predict(files, unreadable=problems.append)), given, exit=2)
    assert [str(problem).partition(" cannot be read as an image (")[0] for problem in problems] == [
        str(broken),
        str(tmp_path / "missing.png"),
    ]
    with pytest.raises(UsageError, match=r"broken\.jpg cannot be read"):
        list(predictor(given.run).predict(files))


def test_the_first_results_come_before_the_last_files_are_asked_for(trained: Train) -> None:
    given = trained()
    [file, *_] = sorted(given.test.rglob("*.png"))
    asked = 0

    def endless() -> object:
        nonlocal asked
        while True:
            asked += 1
            yield file

    predictions = predictor(given.run, batch_size=2, workers=2).predict(endless())  # type: ignore[arg-type]
    assert len(list(islice(predictions, 50))) == 50
    assert asked <= 50 + 2 * 2 * 2 + 2
    predictions.close()


def test_what_has_come_is_predicted_before_the_next_path_is_waited_for(trained: Train) -> None:
    given = trained()
    files = sorted(given.test.rglob("*.*"))
    answered: list[Path] = []

    def producer() -> Iterator[Path | None]:
        yield from (*files[:3], None)
        assert answered == files[:3]
        yield from (files[3], None, None)
        assert answered == files[:4]
        yield from files[4:]

    for each in predictor(given.run, workers=2).predict(producer()):
        answered.append(each.path)
    assert answered == files


def test_images_of_another_size_are_refused_where_training_resized_none(trained: Train, tmp_path: Path) -> None:
    given = trained(resized=False)
    Image.new("RGB", (17, 16)).save(tmp_path / "wide.png")
    with pytest.raises(UsageError, match=r"wide\.png has 17x16 pixels .*takes images of 16x16 alone"):
        list(predictor(given.run).predict(tmp_path))


def test_images_without_files_took_part_in_training_at_their_own_size(
    tiny: compress.Dataset, brief: compress.Recipe, tmp_path: Path
) -> None:
    run = compress.train("resnet8", tiny, recipe=brief, place=compress.Place(runs=tmp_path / "runs"))
    assert run.record.data["preprocessing"] is None
    for number, image in enumerate(tiny.test.images[:4]):
        as_colour = Image.fromarray(image[0].numpy()).convert("RGB")
        as_colour.save(tmp_path / f"{number}.png")
    stored = Trained(run, tmp_path)
    predictions = list(predictor(run).predict(sorted(tmp_path.glob("*.png"))))
    assert [each.label for each in predictions] == [tiny.classes[label] for label in stored.logits[-1, :4].argmax(1)]
    expected = stored.probabilities()[:4].max(axis=1)
    assert [each.probability for each in predictions] == pytest.approx(expected, abs=stored.rounding)


@pytest.fixture
def copied(trained: Train, tmp_path: Path) -> Path:
    """A copy of a run's directory, to damage."""
    shutil.copytree(trained().run.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_damaged_run_is_refused_in_one_line(copied: Path) -> None:
    whole = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"model\.safetensors is corrupt or does not fit its spec") as error:
        predictor(copied)
    assert "\n" not in str(error.value)


def test_a_record_whose_images_were_prepared_by_other_rules_is_refused(copied: Path) -> None:
    run = find_run(copied)
    run.record.data["preprocessing"]["background"] = "black"
    run.write_record()
    with pytest.raises(UsageError, match=r"preprocessing: its background is 'black'.* has 'white'"):
        predictor(copied)


def test_what_does_not_fit_is_refused(trained: Train, tmp_path: Path) -> None:
    given = trained()
    numbers: list[dict[str, Any]] = [{"batch_size": 0}, {"workers": 0}, {"threads": -1}, {"threads": 2**32}]
    for wrong in numbers:
        [(name, number)] = wrong.items()
        with pytest.raises(UsageError, match=f"{name} {number} must be 1 or more"):
            predictor(given.run, **wrong)
    with pytest.raises(UsageError, match="exit 3: resnet8 has exits 1 to 2"):
        predictor(given.run, exit=3)
    with pytest.raises(UsageError, match=f"{given.run.id}:1 names exit 1, and exit 2 is asked for"):
        predictor(f"{given.run.id}:1", exit=2, runs=given.run.path.parent)
    with pytest.raises(UsageError, match=r"neither a run nor a bundle: it has no run\.json and no bundle\.json"):
        predictor(tmp_path)
    with pytest.raises(UsageError, match="run nothing"):
        predictor("nothing", runs=tmp_path)
    write_json(tmp_path / "bundle.json", {})
    with pytest.raises(UsageError, match="is a bundle, which has its exit and policy in it"):
        predictor(tmp_path, exit=1)
    assert os.listdir(tmp_path) == ["bundle.json"]
