"""The door: help, versions, the list of data sets and one-line errors come without the libraries that compute."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, get_args

from benchmarks.measuring import engines
from compress.cli import bench_command
from compress.cli.train_command import Head, Update
from compress.networks.heads import HEADS
from compress.networks.shared_head import SHARED
from compress.training.methods import UPDATES

ALLOWED = {
    *("attr", "attrs", "baselines", "benchmarks", "compress", "cyclopts", "docstring_parser", "filelock"),
    *("rich", "typeguard", "typing_extensions"),
    *("sitecustomize", "usercustomize"),  # an interpreter's own, imported before anything else, as by Debian's
}
SHOWN = [
    *("--help", "--version"),
    *(f"{name} --help" for name in ("train", "train-mwbp", "prune", "bench", "exits", "probe", "select")),
    *(f"{name} --help" for name in ("export", "predict", "study", "report", "data")),
    *("data", "data --json", "prune --list-methods"),
]
REFUSED = [
    ("study quikstart", "did you mean 'quickstart'"),
    ("study quickstart --time-limit 9", "--time-limit 9: a number with its unit, such as 90s, 9m or 2h"),
    ("train --arch resnet45", "depth 45 is not 6n+2; the nearest are 44 and 50"),
    ("train --arch resmet44", "did you mean 'resnet44'"),
    ("train --arch resnet8 --dataset cifar11", "did you mean 'cifar10'"),
    ("train --arch resnet8 --recipe quik", 'Did you mean "quick"?'),
    ("train --arch resnet8 --epochs -1", "epochs -1 must be 0 or more"),
    ("train --arch resnet8 --learning-rate 0", "learning-rate 0: must be above 0"),
    ("train-mwbp --arch resnet8 --batch-size 0", "batch_size 0 must be 1 or more"),
    ("train --arch resnet8 --weight-decay -1", "weight_decay -1.0 must be 0 or more"),
    ("train --arch resnet8 --calibration 2", "calibration 2.0 must be 0 or more, 1 at most"),
    ("train --arch resnet8 --seed -1", "--seed"),
    ("train --arch resnet8 --width 0", "width 0"),
    ("train --arch resnet8 --precision fp8", '"fp8" for --precision. Choose from: "auto", "fp32", "bf16"'),
    ("train --arch resnet8 --device gpu", "\"gpu\" for --device. 'gpu': use auto, cpu or"),
    ("train-mwbp --arch resnet8 --head gap", 'Choose from: "bn-relu-gap-fc", "gap-fc"'),
    ("train-mwbp --arch resnet8 --exits foo", "exits: 'foo' is neither the number of a block nor 'end'"),
    ("bench nothing --engine egaer", "--engine 'egaer': did you mean 'eager'?"),
    ("bench nothing --precision fp32,fp31", "--precision 'fp31': did you mean 'fp32'?"),
    ("exits nothing --max-drop 0", "--max-drop 0: above 0 and below 100"),
    ("exits nothing", "run nothing"),
    ("prune --ratio 1.5", "between 0 and 1"),
    ("prune --ratio 0", "between 0 and 1"),
    ("prune --ratio half", "--ratio half: a number"),
    ("prune --speedup 0.5", "above 1"),
    ("prune", "give one of --ratio, --speedup, --macs, --params, --match, --latency-ratio, not none"),
    ("prune --ratio 0.5 --macs 1e6", "not --ratio and --macs"),
    ("prune --match a --macs 1e6", "not --macs and --match"),
    ("prune --match nothing:2", "run nothing"),
    ("prune --params 0", "--params 0: must be above 0"),
    ("prune --latency-ratio 1.5", "--latency-ratio 1.5: latency after / before lies between 0 and 1"),
    ("prune --speedup 2,nan", "--speedup 2,nan: a number, or several separated by commas"),
    ("prune --speedup 2 --scope outer", '"outer" for --scope'),
    ("prune --speedup 2 --allocate evenly", '"evenly" for --allocate'),
    ("prune --speedup 2 --round-to 0", "--round-to 0"),
    ("prune --speedup 2 --steps 0", "--steps 0: 1 or more"),
    ("prune --speedup 2 --gradual", "give --steps 2 or more"),
    ("prune --speedup 2 --method blocks --uniform", "--uniform: goes with methods that remove"),
    ("prune --speedup 2 --method shallow --steps 2", "shallow"),
    ("prune --speedup 2 --shape l2", "goes with scratch-e and scratch-b, not l1"),
    ("prune --speedup 2 --method scratch-e --shape taylr", 'Did you mean "taylor"?'),
    ("prune --speedup 2 --schedule fast", "schedule"),
    ("prune --speedup 2 --learning-rate 0", "learning-rate 0: must be above 0"),
    ("prune --speedup inf", "--speedup inf: a number"),
    ("bench --batch-size 1.5 nothing", "--batch-size 1.5: a whole number"),
    ("prune --ratio 0.5 --method l3", '"l3" for --method. Choose from: "random", "l1"'),
    ("prune --ratio 0.5 --from nothing", "run nothing"),
    ("bench", "name the runs"),
    ("bench nothing", "run nothing"),
    ("select", "no finished run under runs (--runs names another directory) to choose from; train one: compress train"),
    ("select --max-latency 5", "--max-latency 5: a number with its unit, such as 5ms, 800us or 0.1s"),
    ("select --max-macs -1", "--max-macs -1: a number with its unit, such as 30e6 or 30M"),
    ("select --min-accuracy 90", "--min-accuracy 90: a share, such as 0.9 or 90%"),
    ("select --engine openvin", "--engine 'openvin': did you mean 'openvino'?"),
    ("select --max-drop 101", "--max-drop 101: points of accuracy, from 0 to 100"),
    ("select --min-accuracy 90% --max-drop 0.2", "--min-accuracy and --max-drop: give one of them"),
    ("select --batch-size 0", "--batch-size 0: 1 or more"),
    ("report nowhere", "nowhere is not a directory of runs"),
    ("train --archh resnet8", "--archh"),
    ("train --epochs many", "many"),
    ("trian", "trian"),
    ("train --dataset cifra10", "did you mean 'cifar10'"),
    ("train --dataset folder:nowhere", "folder:nowhere is not a folder"),
    ("train --data-dir nowhere", "--data-dir nowhere is not a folder"),
    ("train --widths 1,2", "widths 1,2: 3 whole numbers"),
    ("train --teacher nobody", "run nobody"),
    ("train-mwbp --method mwpb", 'Did you mean "mwbp"?'),
    ("train-mwbp --gamma none", "gamma 'none'"),
    ("train-mwbp --method frozen-trunk --trunk nothing", "run nothing"),
    ("bench nothing --batch-size some", "--batch-size some: a whole number"),
    ("probe nothing", "run nothing"),
    ("predict nothing", "name image files, folders of them, or - for a list on stdin"),
    ("predict nothing photo.png", "run nothing"),
    ("predict nothing photo.png --format xml", '"xml" for --format. Choose from: "csv", "jsonl"'),
    ("predict nothing photo.png --out no/file", "--out no/file: name a file in a folder that is there"),
    ("predict nothing --fromat", "--fromat: neither an option nor a file"),
    ("data folder:nowhere", "folder:nowhere is not a folder"),
    ("export nothing --out x", "run nothing"),
    ("export nothing", "--out names the directory of the bundle"),
    ("export nothing --out x --format onxx", 'Did you mean "onnx"?'),
    ("export nothing --out x --format pt2 --precision int8", "precision 'int8': bundles in pt2 have fp32"),
    ("data cifar10", "only class folders, folder:PATH, have an inventory"),
]
# Runs command lines one after another; prints, after each, its status, what it said on stderr, and the packages that
# have been imported so far.
RUN = """
import contextlib, io, json, sys
from compress.__main__ import main
for line in json.loads(sys.argv[1]):
    sys.argv = ["compress", *line.split()]
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        status = main()
    packages = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
    print(json.dumps([status, said.getvalue(), sorted(packages)]))
"""


class Answer(NamedTuple):
    """The exit status of a command line, what it said on stderr, and the packages imported until then."""

    status: int
    said: str
    packages: list[str]

    def imported_but(self, allowed: set[str]) -> set[str]:
        """Packages that were imported and are not allowed; an editable install imports some that begin with _."""
        return {name for name in self.packages if not name.startswith("_")} - allowed


def answers(lines: list[str], directory: Path) -> list[Answer]:
    command = [sys.executable, "-c", RUN, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, check=True)
    return [Answer(*json.loads(line)) for line in done.stdout.splitlines()]


def test_what_computes_nothing_imports_nothing_that_computes(tmp_path: Path) -> None:
    for line, answer in zip(SHOWN, answers(SHOWN, tmp_path), strict=True):
        assert (line, answer.status, answer.imported_but(ALLOWED)) == (line, 0, set())


def test_a_mistake_is_one_line_that_helps_and_imports_nothing_that_computes(tmp_path: Path) -> None:
    lines, messages = zip(*REFUSED, strict=True)
    for line, message, answer in zip(lines, messages, answers(list(lines), tmp_path), strict=True):
        assert message in answer.said, line
        assert (line, answer.status, answer.said.count("\n")) == (line, 2, 1)
        assert not answer.imported_but(ALLOWED), line
    assert not list(tmp_path.iterdir())


def test_names_that_the_commands_repeat_are_those_of_the_libraries_that_compute() -> None:
    assert set(get_args(Head)) == {*HEADS, SHARED}
    assert (set(bench_command.ENGINES), bench_command.PRECISIONS) == (set(engines.ENGINES), engines.PRECISIONS)
    assert get_args(Update) == UPDATES
