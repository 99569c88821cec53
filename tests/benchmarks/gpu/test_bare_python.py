"""The command runs without anything but torch, numpy, Pillow, safetensors and rich, to an archive that reports."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

HIDDEN = ["pandas", "scipy", "fvcore", "torchvision", "torch_pruning", "cyclopts", "typeguard", "matplotlib"]
ROOT = Path(__file__).parents[3]
STUDY = """
title = "Tiny"
about = "Two networks on a few images."
takes = "seconds"
dataset = "folder:{folder}"
recipe = "quick"
seeds = [0, 1]
reference = "resnet8"

[[run]]
name = "resnet8"
command = "train"
arch = "resnet8"
widths = [4, 4, 4]

[[run]]
name = "mwresnet8-2"
command = "train-mwbp"
arch = "resnet8"
widths = [4, 4, 4]
exits = 2

[[run]]
name = "pruned"
command = "prune"
from = "resnet8"
method = "l1"
speedup = 1.5
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that has nothing else installed."""
    place = tmp_path_factory.mktemp("bare")
    shutil.copyfile(Path(__file__).with_name("bare_python.py"), place / "sitecustomize.py")
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}", "XDG_CACHE_HOME": str(place / "cache")}


@pytest.fixture(scope="module")
def checked(bare: dict[str, str], tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a check of this machine, by a study of seconds."""
    place = tmp_path_factory.mktemp("check")
    (place / "tiny.toml").write_text(STUDY.format(folder=tiny_folder))
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--study", "tiny.toml", "--out", "out"]
    command += ["--stages", "tests", "latency", "study"]
    done = subprocess.run(command, cwd=place, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(place / "out" / "gpu-check.zip")]
    return place / "out"


def test_other_packages_are_hidden(bare: dict[str, str]) -> None:
    program = f"from importlib.util import find_spec as f; print([name for name in {HIDDEN} if f(name)])"
    done = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert all(find_spec(name) for name in HIDDEN)  # they are installed


def test_every_stage_is_in_the_archive_with_how_it_ended(checked: Path) -> None:
    manifest = json.loads(zipfile.ZipFile(checked / "gpu-check.zip").read("manifest.json"))
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    assert list(stages) == ["tests", "latency", "study"]
    assert (stages["tests"]["status"], stages["study"]["status"]) == ("skipped", "done"), stages
    assert stages["latency"]["status"] in ("done", "stopped")  # by its minute, on a slow machine
    assert stages["tests"]["reason"] in ("there is no CUDA here", "they are for CUDA")
    assert "eager fp32: measured" in stages["latency"]["tail"]
    assert manifest["runs"] == 4
    assert manifest["environment"]["installed"].keys() == {"torch", "numpy", "pillow", "safetensors", "rich"}


def test_the_archive_holds_records_and_no_weights(checked: Path) -> None:
    names = zipfile.ZipFile(checked / "gpu-check.zip").namelist()
    assert {Path(name).name for name in names} == {
        *("manifest.json", "comparison.json"),
        *("run.json", "metrics.jsonl", "correctness.json", "bench.json", "costs.json"),
    }


def test_the_report_is_made_of_the_archive_and_names_what_could_not_run(
    checked: Path, compress: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    status, _, err = compress("report", checked / "gpu-check.zip", "--out", tmp_path)
    assert status == 0, err
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Tiny")
    assert "MwResNet-8-2" in text
    assert "torch-pruning, which is not installed" in " ".join(text.split())
    assert (tmp_path / "latency.csv").read_text().count("eager,fp32") >= 3


@pytest.mark.slow
def test_the_same_command_goes_on_with_the_runs_that_are_there(checked: Path, bare: dict[str, str]) -> None:
    study = checked.parent / "tiny.toml"
    study.write_text(study.read_text().replace("seeds = [0, 1]", "seeds = [0, 1, 2]"))
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--study", "tiny.toml", "--out", "out"]
    done = subprocess.run([*command, "--stages", "study"], cwd=checked.parent, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = json.loads(zipfile.ZipFile(checked / "gpu-check.zip").read("manifest.json"))
    assert manifest["runs"] == 6
    assert (checked / "study.log").read_text().count("epoch 5/5") == 2
