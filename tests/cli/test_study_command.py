"""`compress study`: what its file says and options override, and a limit of time that leaves nothing to report."""

import json
from pathlib import Path

import pytest

from compress import Place
from compress.cli.cluster_options import ClusterOptions
from compress.cli.quantities import DURATIONS, quantity
from compress.cli.study_command import StudyPlaceOptions
from tests.conftest import Command

STUDY = """
title = "Small"
about = "A study of a test."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
epochs = 3
precision = "fp32"
reference = "deep"
run = [{name = "deep", command = "train", arch = "resnet8"}]
"""


@pytest.fixture
def study(tiny_folder: Path, tmp_path: Path) -> list[str]:
    """The command of a study, on small real data."""
    (tmp_path / "small.toml").write_text(STUDY)
    return [
        "study",
        str(tmp_path / "small.toml"),
        "--dataset",
        f"folder:{tiny_folder}",
        "--runs",
        str(tmp_path / "runs"),
    ]


def test_a_duration_has_a_unit() -> None:
    said = {"90s": 90, "9m": 540, "9 min": 540, "1.5h": 5400}
    assert {text: quantity("time-limit", text, DURATIONS, "9m") for text in said} == said


def test_options_go_before_what_the_file_says(compress: Command, study: list[str]) -> None:
    for options, epochs in (((), 3), (("--epochs", "2"), 2), (("--recipe", "short"), 12)):
        status, out, err = compress(*study, "--dry-run", "--json", *options)
        assert status == 0, err
        assert [run["epochs"] for run in json.loads(out)["runs"]] == [epochs]
    status, out, err = compress(*study, "--dry-run", "--epochs", "0")
    assert (status, out, err.splitlines()[-1]) == (2, "", "compress: --epochs 0: a study trains; give 1 or more")
    for option, value in (("--cpus-per-run", "2.0"), ("--address", "head:6379")):  # all runs would be made here
        assert f"{option} {value}: is for --executor ray" in compress(*study, "--dry-run", option, value)[2]
    assert StudyPlaceOptions().place("fp32").precision == "fp32"
    assert StudyPlaceOptions(precision="auto").place("fp32").precision == "auto"


def test_on_ray_the_nodes_have_the_device_and_all_of_them_one_precision(compress: Command, study: list[str]) -> None:
    elsewhere = ["--device", "cuda:99", "--precision", "auto", "--dry-run"]
    status, _, err = compress(*study, "--executor", "ray", *elsewhere)
    assert status == 0, err
    assert "precision: fp32, alike on all nodes" in err
    assert "device cuda:99: of the nodes" in err
    assert compress(*study, *elsewhere)[0] == 2  # else it is this machine that needs it
    place = Place(precision="auto")
    assert ClusterOptions(executor="ray").place(place) == Place(precision="fp32")
    assert ClusterOptions().place(place) == place


def test_what_no_time_is_left_for_is_said_and_nothing_is_written(
    compress: Command, study: list[str], tmp_path: Path
) -> None:
    status, out, err = compress(*study, "--time-limit", "0.001s", "--out", str(tmp_path / "out"), "--json")
    assert status == 0, err
    assert json.loads(out) == {"runs": [], "report": None, "handover": []}
    assert "1 of 1 runs: the time limit came before them; the same command goes on with them" in err
    assert not (tmp_path / "out").exists()


def test_without_a_report_runs_are_made_alone(compress: Command, study: list[str], tmp_path: Path) -> None:
    status, out, err = compress(*study, "--epochs", "1", "--no-report", "--out", str(tmp_path / "out"))
    assert status == 0, err
    assert "ResNet-8" in out
    assert "1 runs are finished, and nothing reported" in err
    assert not (tmp_path / "out").exists()
    [run] = (tmp_path / "runs").glob("*/run.json")
    assert json.loads(run.read_text())["config"]["precision"] == "fp32"
