"""Bad command lines, made systematically from the options that the commands have; and a process that runs them.

Every command with every option with every bad value; options without a value, given twice, misspelt, and together with
those that they do not go with; surplus words. What a new option brings is tried without a change here.

As a program it reads one case a line from stdin, a JSON list of words, runs it in a copy of a prepared directory, and
answers with one line of JSON. Whoever drives it sees a hang by the silence and a crash by the end of the output.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from compress.cli.app import app, main

FILE = Path(__file__)
DATA, RUN, MULTI = "{data}", "{run}", "{multi}"  # stand for what a prepared directory has
COMMON = ["--runs", "runs", "--dataset", f"folder:{DATA}", "--epochs", "1"]
GOOD = {
    "train": ["--arch", "resnet8", *COMMON],
    "train-mwbp": ["--arch", "resnet8", "--exits", "2", *COMMON],
    "prune": ["--from", RUN, "--speedup", "2", "--nearest", *COMMON],
    "bench": [MULTI, "--runs", "runs", "--rounds", "2", "--batch-size", "1"],
    "probe": [RUN, "--runs", "runs", "--out", "report"],
    "study": ["study.toml", *COMMON, "--dry-run"],
    "report": ["runs", "--out", "report"],
    "data": [],
}
VALUES = (
    *("", " ", "-1", "0", "0.5", "3", "-0.0", "1e999", "nan", "-inf", "1,", ",", "0,1", "1,2,x", "1e30", "99999"),
    *("4294967296", "9" * 30, "9" * 5000, "\N{ARABIC-INDIC DIGIT THREE}", "true", "\N{SNOWMAN}\u202e", "\udcff"),
    *("\x07\x1b[31m\n\tx", "%s{}", "--", "-", ":", "x:y", "x" * 300, RUN, f"{RUN}:9", MULTI, f"{MULTI}:1"),
    *("file.txt", "file.txt/x", "directory", "directory/../file.txt", "missing/deeper", "/dev/null"),
    *("~nobody-here/x", "folder:", "folder:directory", "folder:file.txt"),
    *("python:nowhere:f", "timm:", "torchvision:resnet18"),
)
TOGETHER = (
    ("prune", "--ratio", "0.5", "--speedup", "2"),
    ("prune", "--macs", "1e5", "--params", "1000"),
    ("prune", "--from", RUN, "--arch", "resnet14"),
    ("prune", "--from", f"{MULTI}:2", "--method", "bn-scale", "--speedup", "2"),
    ("prune", "--speedup", "2", "--method", "shallow", "--steps", "2"),
    ("prune", "--speedup", "2", "--gradual", "--allocate", "sensitivity"),
    ("prune", "--latency-ratio", "0.5", "--steps", "2"),
    ("train", "--weights", "file.txt", "--pretrained"),
    ("train", "--width", "2", "--widths", "4,8,16"),
    ("train", "--arch", "torchvision:resnet18", "--blocks", "3,3,3"),
    ("train-mwbp", "--method", "frozen-trunk", "--pretrained"),
    ("train-mwbp", "--method", "auxnet", "--update", "simultaneous"),
    ("train-mwbp", "--update", "sequential", "--precision", "bf16"),
    ("train-mwbp", "--exits", "2", "--arch", "MwResNet-56-5"),
    ("bench", RUN, "--all", "runs"),
    ("bench", RUN, MULTI, RUN),
    ("bench", RUN, "--engine", "openvino", "--precision", "int8", "--device", "cuda"),
    ("probe", RUN, RUN),
    ("probe", RUN, MULTI, "--epochs", "2"),
    ("report", "runs", "report"),
    ("study", "quickstart", "study.toml"),
)


class Outcome(NamedTuple):
    """What a command line came to: its exit status (-1: none, for `crash` says how it ended), and what it printed."""

    status: int
    out: str
    err: str
    crash: str = ""

    @property
    def fault(self) -> str:
        """What is wrong with it; nothing where it did what was asked, or said in one line why not."""
        if self.crash:
            return self.crash
        refusals = [line for line in self.err.splitlines() if line.startswith("compress: ")]
        if "Traceback" in self.err or "site-packages" in self.err:
            return f"somebody else's words: {self.err}"
        if self.status == 0:
            return f"a success with a refusal: {refusals}" if refusals else ""
        if self.status != 2 or len(refusals) != 1 or self.err.splitlines()[-1] != refusals[0]:
            return f"status {self.status}, and not one line at the end: {self.err}"
        return "" if refusals[0].isprintable() else f"not printable: {refusals[0]!r}"


def command_lines() -> Iterator[list[str]]:
    """All of them, in an order that is the same every time."""
    for command, good in GOOD.items():
        yield [command]
        yield [command, *good, "surplus"]
        yield [command, *good, "--no-such-option", "1"]
        for argument in app[command].assemble_argument_collection():
            for name in (name for name in argument.names if name.startswith("--") and name != "--debug"):
                yield [command, *good, name]
                yield [command, *good, name[:-1] + "x"]
                yield [command, *good, name, name]
                yield [command, *good, name, "1", name, "2"]
                for value in VALUES:
                    yield [command, *_without(good, name), f"{name}={value}"]
        for value in VALUES if good[:1] and not good[0].startswith("-") else ():
            yield [command, value, *good[1:]]
    yield from map(list, TOGETHER)
    for value in VALUES:
        yield [value]


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words but for an option and its value."""
    if option not in words:
        return list(words)
    place = words.index(option)
    valued = place + 1 < len(words) and not words[place + 1].startswith("--")
    return [*words[:place], *words[place + 1 + valued :]]


def prepare(directory: Path, data: Path) -> dict[str, str]:
    """What stands for what in the words, once `directory` has all that they name."""
    made = directory / "made"
    (made / "directory").mkdir(parents=True)
    (made / "file.txt").write_text("words\n")
    (made / "study.toml").write_text(
        'title = "Small"\nabout = "."\ntakes = "seconds"\ndataset = "fashion-mini"\nrecipe = "quick"\n'
        'reference = "deep"\n[[run]]\nname = "deep"\ncommand = "train"\narch = "resnet8"\n'
    )
    places = {DATA: str(data)}
    with inside(made):
        for name, command in ((RUN, "train"), (MULTI, "train-mwbp")):
            outcome = run([command, *GOOD[command], "--json"], places)
            assert outcome.status == 0, outcome
            places[name] = json.loads(outcome.out)["runs"][0]["id"]
    return places


@contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Be in a directory."""
    before = Path.cwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def run(words: Sequence[str], places: dict[str, str]) -> Outcome:
    """Run a command line in this process, as it is typed in this directory."""
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _printing_to(out, err):
        try:
            status, crash = main(words), ""
        except BaseException:
            status, crash = -1, traceback.format_exc()
        sys.stdout.flush()
        said, noted = [os.pread(file.fileno(), 1 << 24, 0).decode(errors="surrogateescape") for file in (out, err)]
    return Outcome(status, said, noted, crash)


@contextmanager
def _printing_to(out: io.IOBase, err: io.IOBase) -> Iterator[None]:
    """Send what this process prints, and what libraries in C do, to these files."""
    kept = [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    with (
        open(1, "w", closefd=False) as stdout,
        open(2, "w", closefd=False, errors="backslashreplace", buffering=1) as stderr,
    ):
        try:
            with redirect_stdout(stdout), redirect_stderr(stderr):
                yield
        finally:
            stdout.flush()
            stderr.flush()
            for number, before in enumerate(kept, start=1):
                os.dup2(before, number)
                os.close(before)


def serve(data: Path) -> None:
    """Answer every line of stdin: see above."""
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        places = prepare(Path(scratch), data)
        for line in sys.stdin:
            shutil.copytree(Path(scratch) / "made", Path(scratch) / "copy", symlinks=True)
            with inside(Path(scratch) / "copy"):
                outcome = run(json.loads(line), places)
            shutil.rmtree(Path(scratch) / "copy")
            print(json.dumps(outcome), file=answers, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
