"""The command as a user types it: what it prints, what it refuses and how."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks
from compress.cli.app import main
from compress.errors import UsageError
from compress.runs import claimed, read_run
from compress.training.checkpoints import load_checkpoint

Command = Callable[..., tuple[int, str, str]]
Refused = Callable[..., str]

SMALL = ["--arch", "resnet8", "--epochs", "1"]


@pytest.fixture
def options(tiny_folder: Path, tmp_path: Path) -> list[str]:
    """Small real data, and a runs directory of the test's own."""
    return ["--dataset", f"folder:{tiny_folder}", "--runs", str(tmp_path / "runs")]


def test_json_is_all_that_a_training_and_its_measurement_print(compress: Command, options: list[str]) -> None:
    _, out, _ = compress("train-mwbp", *SMALL, "--exits", "2", *options, "--json")
    [record] = json.loads(out)["runs"]
    assert (record["status"], record["kind"], record["method"]) == ("finished", "train", "mwbp")
    assert [exit["block"] for exit in record["results"]["exits"]] == [2, 3]
    assert record["command"].startswith("compress train-mwbp --arch resnet8 --exits 2 --dataset folder:")
    how = ["--engine", "eager, eager", "--batch-size", "1, 4,1", "--rounds", "2"]
    measure = ["bench", record["id"], *how, "--runs", options[-1], "--json"]
    measured = json.loads(compress(*measure)[1])["rows"]
    assert [(row["exit"], row["batch_size"]) for row in measured] == [(1, 1), (2, 1), (1, 4), (2, 4)]


def test_a_share_that_nothing_is_held_out_by_is_told(compress: Command, tiny_folder: Path, tmp_path: Path) -> None:
    own = ["--dataset", f"folder:{tiny_folder / 'train'}", "--runs", tmp_path / "runs", "--validation", "0.3"]
    status, _, err = compress("train", *SMALL, *own)
    assert status == 0
    assert re.search(r"--validation has no effect: folder:\S+ has [0-9]+ validation images of its own", err)


def test_names_of_any_bytes_are_shown(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "photos")
    (folder / "train" / os.fsdecode(b"caf\xe9.txt")).touch()
    command = [sys.executable, "-m", "compress", "data", f"folder:{folder}"]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, capture_output=True, text=True, env=strict)
    assert done.returncode == 0, done.stderr
    assert r"caf\udce9.txt" in done.stdout


def test_several_budgets_have_one_reference_and_can_be_another_runs_or_one_of_its_exits(
    compress: Command, refused: Refused, options: list[str], tmp_path: Path
) -> None:
    options = [*options, "--image-size", "8"]
    _, out, _ = compress("train-mwbp", *SMALL, "--exits", "3", *options, "--json")
    [match] = json.loads(out)["runs"]
    names = f"{match['id']}:2,{match['id']}"
    status, out, err = compress("prune", "--arch", "resnet14", "--epochs", "1", "--match", names, *options, "--json")
    assert status == 0, err
    runs = json.loads(out)["runs"]
    assert len({run["parent"] for run in runs}) == 1
    assert len(list((tmp_path / "runs").iterdir())) == 4
    macs = [run["results"]["exits"][-1]["macs"] for run in runs]
    wanted = [exit["macs"] for exit in match["results"]["exits"][1:]]
    assert macs == pytest.approx(wanted, rel=0.01)
    exact = runs[0]
    status, again, _ = compress(*exact["command"].split()[1:], "--runs", tmp_path / "runs", "--json")
    assert (status, json.loads(again)["runs"][0]["id"]) == (0, exact["id"])
    line = refused("prune", "--match", f"{match['id']}:4", *options, leaves=True)
    assert f"run {match['id']} has exits 1 to 3" in line


def test_a_dry_run_says_what_can_be_had_and_trains_nothing(
    compress: Command, options: list[str], tmp_path: Path
) -> None:
    asked = ["prune", "--arch", "resnet8", "--speedup", "2,1000", *options, "--image-size", "8", "--dry-run"]
    status, out, _ = compress(*asked)
    assert status == 0
    assert not (tmp_path / "runs").exists()
    assert out.count("there is no reference yet") == 2
    assert "--speedup 2: " in out
    assert "training would take about" in out
    assert "--speedup 1000: " in out
    assert "cannot be reached" in out
    status, out, _ = compress(*asked, "--json")
    near, far = json.loads(out)["forecasts"]
    assert (near["requested"], near["trained"], near["refused"], far["achieved"]) == ("--speedup 2", False, None, None)
    whole, smallest, largest = (near[key]["macs"] for key in ("whole", "smallest", "largest"))
    assert near["achieved"]["macs"] == pytest.approx(whole / 2, rel=0.01)
    assert smallest < near["achieved"]["macs"] < largest < whole
    assert f"{smallest:,} MACs" in far["refused"]
    assert not (tmp_path / "runs").exists()


def test_a_latency_is_met_as_measured_here(compress: Command, options: list[str]) -> None:
    given = ["--latency-ratio", "0.8", "--nearest", *options, "--image-size", "8", "--json"]
    status, out, err = compress("prune", *SMALL, *given)
    assert "latency at batch 1" in err
    if status == 2:  # on a machine on which nothing is that much faster
        assert "compress: --latency-ratio 0.8 was not met: the nearest measured" in err
        return
    assert status == 0, err
    [record] = json.loads(out)["runs"]
    low, middle, high = record["results"]["achieved"]["latency_ratio"]
    assert 0 < low <= middle <= high
    assert record["results"]["achieved"]["speedup"] > 1
    assert record["results"]["requested"] == {"latency_ratio": 0.8}


def test_the_shares_held_out_are_options_that_the_recorded_command_repeats_and_prunings_keep(
    compress: Command, options: list[str]
) -> None:
    status, out, err = compress("train-mwbp", "--exits", "2", *SMALL, "--calibration", "0.2", *options, "--json")
    assert status == 0, err
    [record] = json.loads(out)["runs"]
    assert (record["data"]["split"]["validation"], record["data"]["split"]["calibration"]) == (10, 40)
    assert "--calibration 0.2 --seed" in record["command"]
    assert "#" not in record["command"]
    status, out, err = compress("prune", "--from", record["id"], "--ratio", "0.5", *options[2:], "--json")
    assert status == 0, err
    [pruned] = json.loads(out)["runs"]
    assert pruned["data"]["split"] == record["data"]["split"]
    assert "#" not in pruned["command"]


def test_rate_batch_and_decay_are_options_that_the_recorded_command_repeats(
    compress: Command, options: list[str]
) -> None:
    given = ["--learning-rate", "0.05", "--batch-size", "48", "--weight-decay", "0"]
    status, out, err = compress("train-mwbp", "--exits", "2", *SMALL, *given, *options, "--json")
    assert status == 0, err
    [record] = json.loads(out)["runs"]
    recipe = record["config"]["recipe"]
    assert (recipe["learning_rate"], recipe["batch_size"], recipe["weight_decay"]) == (0.05, 48, 0)
    assert "batch_size" not in record["config"]  # it is as it was asked for
    assert "an epoch has only 3 steps of 48 images" in err
    assert "--learning-rate 0.05 --batch-size 48 --weight-decay 0.0 --seed" in record["command"]
    assert "#" not in record["command"]
    _, out, err = compress(*record["command"].split()[1:], *options[2:], "--json")
    assert json.loads(out)["runs"][0]["id"] == record["id"]
    assert "finished before" in err


def test_the_default_data_are_named(compress: Command, tmp_path: Path) -> None:
    status, _, err = compress("train", "--arch", "resnet8", "--recipe", "nothing", "--runs", tmp_path / "runs")
    assert status == 2
    assert "data: " not in err  # what is wrong is said first
    status, _, err = compress("train-mwbp", "--arch", "resnet8", "--exits", "9", "--runs", tmp_path / "runs")
    assert status == 2
    assert "data: fashion-mini, 8,000 bundled images" in err
    assert "CIFAR-10" in err


def test_runs_are_kept_where_the_environment_says_and_the_report_lists_what_it_skips(
    compress: Command, refused: Refused, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESS_RUNS", str(tmp_path / "elsewhere"))
    assert compress("train", *SMALL, *options[:2])[0] == 0
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    line = refused("prune", *SMALL, "--speedup", "1e6", *options[:2], leaves=True)
    assert "cannot be reached" in line
    assert "at the least" in line
    (tmp_path / "elsewhere" / "foreign").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text("foreign, too")
    status, out, err = compress("report", "--out", tmp_path / "report")
    assert status == 0
    assert Path(out.strip()).read_text().startswith("# Comparison")
    assert "skipped: run" in err
    assert "notes.txt is a file, not a run directory" in " ".join(err.split())
    monkeypatch.setenv("COMPRESS_RUNS", f"{tmp_path}/one:two")  # one place, as for all other commands
    assert f"{tmp_path}/one:two is not a directory of runs" in refused("report")


def test_data_shows_every_set_and_where_it_is(compress: Command) -> None:
    status, out, _ = compress("data", "--json")
    assert status == 0
    found = {row["name"]: row for row in json.loads(out)["datasets"]}
    assert {"fashion-mini", "fashion-mnist", "cifar10", "cifar100", "svhn", "folder:PATH"} < set(found)
    assert found["fashion-mini"]["where"] == "bundled"
    assert "fashion-mini" in compress("data")[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train-mwbp --arch resnet8 --exits 4", "the number of exits is 1 to 3"),
        ("train-mwbp --arch resnet8 --exits 0", "the number of exits is 1 to 3"),
        ("train-mwbp --arch resnet8 --exits 1,7,end", "block 7 is out of range"),
        ("train-mwbp --arch resnet8 --exits 1,1,end", "repeated"),
        ("train-mwbp --arch resnet8 --exits 2,1,end", "not ascending"),
        ("train-mwbp --arch resnet8 --exits 1,2", "write 'end'"),
    ],
)
def test_mistakes_that_take_torch_to_find_are_one_line_too(
    line: str, message: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(*line.split())


def test_debug_shows_the_traceback(options: list[str]) -> None:
    with pytest.raises(ValueError, match="resnet45"):
        main(["train", "--arch", "resnet45", "--debug", *options])


STUDY = (
    'title = "Small"\nabout = "."\ntakes = "seconds"\ndataset = "fashion-mini"\nrecipe = "quick"\n'
    'reference = "deep"\n[[run]]\nname = "deep"\ncommand = "train"\narch = "resnet8"\n'
    '[[run]]\nname = "half"\ncommand = "prune"\nfrom = "deep"\nspeedup = 2\n'
)
GO_ON = "a run that had begun goes on by the same command"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize(
    ("number", "status", "start", "command", "how"),
    [
        (signal.SIGINT, 130, (), ["train", "--arch", "resnet8"], f"interrupted; {GO_ON}"),
        (signal.SIGTERM, 143, (), ["study", "small.toml"], "terminated; 0 of 2 runs are done; the same command"),
        (signal.SIGTERM, 1, TORCHRUN, ["train", "--arch", "resnet8"], f"terminated; {GO_ON}"),
    ],
    ids=["ctrl-c", "study", "torchrun"],
)
def test_an_interrupted_command_says_how_to_go_on(
    number: signal.Signals,
    status: int,
    start: tuple[str, ...],
    command: list[str],
    how: str,
    options: list[str],
    tmp_path: Path,
) -> None:
    """Torchrun has a status of its own, 1, and hands SIGTERM on to its workers."""
    (tmp_path / "small.toml").write_text(STUDY)
    command = [sys.executable, *start, "-m", "compress", *command, "--epochs", "10000", *options]

    def heed_interrupts() -> None:
        """Undo that SIGINT is ignored, as in what a shell runs in the background; children inherit that."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts, cwd=tmp_path)
    while not (found := list((tmp_path / "runs").glob("*/checkpoint/last.pt"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)  # in the first epoch, of whose start there is a checkpoint
    _, err = process.communicate(timeout=300)
    assert process.returncode == status
    [line] = [line for line in err.splitlines() if line.startswith("compress: ")]
    assert line.startswith(f"compress: {how}")
    assert start or "Traceback" not in err  # torchrun has one of its own
    [path] = {file.parents[1] for file in found}
    assert read_run(path).record.status == "running"
    assert load_checkpoint(path / "checkpoint") is not None
    with claimed(path):  # nobody holds it any more
        assert not list(path.glob(".*.*"))


def test_a_study_says_what_its_recipe_holds_out_and_how_classes_count(
    refused: Refused, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def plan(setting: benchmarks.Setting) -> None:
        asked.append(setting.recipe)
        raise UsageError("seen")

    monkeypatch.setattr(benchmarks, "plan_study", plan)
    keys = 'class_weights = "balanced"\nvalidation = 0.1\ncalibration = 0.25\n'
    (tmp_path / "small.toml").write_text(keys + STUDY)
    assert refused("study", tmp_path / "small.toml", "--dry-run", *options) == "compress: seen"
    [recipe] = asked
    assert (recipe.class_weights, recipe.validation, recipe.calibration) == ("balanced", 0.1, 0.25)
    for wrong, message in (('class_weights = "even"', "class_weights: "), ("validation = 1.5", "validation 1.5")):
        (tmp_path / "small.toml").write_text(f"{wrong}\n{STUDY}")
        assert message in refused("study", tmp_path / "small.toml", "--dry-run", *options)


def test_a_study_shows_its_plan_and_trains_nothing(compress: Command, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    before = sorted(tmp_path.rglob("*"))
    study = ["study", str(tmp_path / "small.toml"), "--dry-run", "--epochs", "1", *options]
    status, out, err = compress(*study)
    assert status == 0, err
    assert "to run" in out
    assert "waits for deep" in out
    assert out.splitlines()[-1].startswith("2 runs, 0 finished, 2 left: about ")
    document = json.loads(compress(*study, "--json")[1])
    assert [row["state"] for row in document["runs"]] == ["to run", "waiting"]
    assert document["left"] == 2
    assert sorted(tmp_path.rglob("*")) == before
