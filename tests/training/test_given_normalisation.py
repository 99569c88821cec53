"""A normalisation of the user's own: weights that were trained with it are as good as they were, and runs keep it."""

import re
import shlex
from pathlib import Path

import pytest

from compress.data import Normalisation, open_dataset
from compress.errors import UsageError
from compress.runs import Run, finished_runs
from tests.conftest import Command

OWN = ("--normalisation", "0.1/0.9")


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path, compress: Command) -> Run:
    """A run on images of the user's own, normalised by constants that were given."""
    data = ["--dataset", f"folder:{tiny_folder}", "--recipe", "quick", "--epochs", "3", "--runs", tmp_path]
    status, _, err = compress("train", "--arch", "resnet8", *data, *OWN)
    assert status == 0, err
    [found] = finished_runs(tmp_path)[0]
    return found


def test_given_weights_are_as_accurate_as_under_their_own_normalisation(
    run: Run, tiny_folder: Path, tmp_path: Path, compress: Command
) -> None:
    weights = ["--arch", "resnet8", "--weights", run.path / "model.safetensors", "--ratio", "0.3", "--epochs", "0"]
    data = ["--dataset", f"folder:{tiny_folder}", "--recipe", "quick"]
    found = {}
    for options in (OWN, ()):
        place = tmp_path / f"{len(options)}"
        status, _, err = compress("prune", *weights, *data, *options, "--runs", place)
        assert status == 0, err
        [given] = [run for run in finished_runs(place)[0] if run.record.kind == "train"]
        found[options] = given.exits[-1]["test_loss"]
    assert found[OWN] == pytest.approx(run.exits[-1]["test_loss"], abs=1e-6)
    assert found[()] != pytest.approx(run.exits[-1]["test_loss"], abs=0.01)


def test_a_run_keeps_its_normalisation_and_so_does_what_is_pruned_from_it(
    run: Run, tiny_folder: Path, tmp_path: Path, compress: Command
) -> None:
    assert run.normalisation == Normalisation(mean=(0.1,), std=(0.9,))
    status, _, err = compress(*shlex.split(run.record.command)[1:], "--runs", tmp_path)
    assert (status, "finished before" in err) == (0, True)
    prune = ["prune", "--ratio", "0.3", "--epochs", "0", "--runs", tmp_path, "--from", run.id]
    for data in ([], ["--dataset", f"folder:{tiny_folder}"]):
        status, _, err = compress(*prune, *data)
        assert status == 0, err
    [pruned] = [run for run in finished_runs(tmp_path)[0] if run.record.kind == "prune"]
    assert pruned.normalisation == run.normalisation
    assert " --normalisation 0.1/0.9 " in pruned.record.command
    status, _, err = compress(*prune, "--dataset", f"folder:{tiny_folder}", "--normalisation", "0.2/0.9")
    assert (status, "with --normalisation 0.1/0.9" in err) == (2, True)


@pytest.mark.parametrize("given", ["imagenet1k", "0.5", "0.5/0", "0.5,0.5/0.2", "a/b", "nan/1", "0.5/0.5/0.5"])
def test_what_is_no_normalisation_is_refused_in_one_line(given: str, compress: Command) -> None:
    status, _, err = compress("train", "--normalisation", given)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"compress: --normalisation {given}: imagenet, or the mean and the std of every channel")


def test_a_given_normalisation_has_as_many_channels_as_the_images() -> None:
    dataset = open_dataset("fashion-mini")
    with pytest.raises(UsageError, match=re.escape("fashion-mini: 1 channels do not fit 0.485,0.456,0.406/0.229,")):
        dataset.normalised_by("imagenet")
    once = dataset.normalised_by("0.5/0.5")
    assert once.normalised_by("0.25/0.5").options == ("--normalisation", "0.25/0.5")
    assert once.normalised_by(Normalisation(mean=(0.5,), std=(0.5,))) is once
