"""A thousand bad command lines: each does what it says, or is refused in one line; none ends in a traceback.

They are made from the options that the commands have, so that a new option is tried without a change here: every
command with every option with every bad value; options without a value, given twice, misspelt, and together with those
that they do not go with; surplus words.
"""

import json
import random
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from compress.cli.app import app, main

CHEAP, MANY = 30, 1200  # of some 7,000
DATA, RUN, MULTI = "{data}", "{run}", "{multi}"  # stand for what a prepared directory has
COMMON = ["--runs", "runs", "--dataset", f"folder:{DATA}", "--epochs", "1"]
GOOD = {
    "train": ["--arch", "resnet8", *COMMON],
    "train-mwbp": ["--arch", "resnet8", "--exits", "2", *COMMON],
    "prune": ["--from", RUN, "--speedup", "2", "--nearest", *COMMON],
    "bench": [MULTI, "--runs", "runs", "--rounds", "2", "--batch-size", "1"],
    "probe": [RUN, "--runs", "runs", "--out", "report"],
    "select": [MULTI, "--runs", "runs", "--rounds", "2", "--engine", "eager"],
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
    ("select", RUN, MULTI, "--max-latency", "1s", "--engine", "eager"),
    ("select", RUN, "--precision", "int8", "--engine", "eager"),
    ("select", f"{MULTI}:1", MULTI, "--min-accuracy", "1%", "--max-macs", "1k"),
    ("select", "runs", "--dataset", "cifar10"),
    ("probe", RUN, RUN),
    ("probe", RUN, MULTI, "--epochs", "2"),
    ("report", "runs", "report"),
    ("study", "quickstart", "study.toml"),
)


def command_lines() -> Iterator[list[str]]:
    """Yield all command lines, always in this order."""
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
    """Return the words without an option and its value."""
    if option not in words:
        return list(words)
    place = words.index(option)
    valued = place + 1 < len(words) and not words[place + 1].startswith("--")
    return [*words[:place], *words[place + 1 + valued :]]


def fault(status: int, err: str) -> str:
    """Return what is wrong with how a command ended; nothing where it did what was asked, or said in one line why not.

    A status of -1 is that of an exception.
    """
    refusals = [line for line in err.splitlines() if line.startswith("compress: ")]
    if status == -1 or "Traceback" in err or "site-packages" in err:
        return f"an error that is not the command's own: {err}"
    if status in (0, 1):  # 1: it was done, and what was asked for is not there
        return f"a success with a refusal: {refusals}" if refusals else ""
    if status != 2 or len(refusals) != 1 or err.splitlines()[-1] != refusals[0]:
        return f"status {status}, and not one line at the end: {err}"
    return "" if refusals[0].isprintable() else f"not printable: {refusals[0]!r}"


class Runner:
    """Runs command lines in a prepared directory, which it enters; ``places`` stand for what is there."""

    def __init__(self, directory: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd, self.places = capfd, {DATA: str(data)}
        (directory / "directory").mkdir()
        (directory / "file.txt").write_text("words\n")
        (directory / "study.toml").write_text(
            'title = "Small"\nabout = "."\ntakes = "seconds"\ndataset = "fashion-mini"\nrecipe = "quick"\n'
            'reference = "deep"\n[[run]]\nname = "deep"\ncommand = "train"\narch = "resnet8"\n'
        )
        for name, command in ((RUN, "train"), (MULTI, "train-mwbp")):
            status, out, err = self.run([command, *GOOD[command], "--json"])
            assert status == 0, err
            self.places[name] = json.loads(out)["runs"][0]["id"]

    def run(self, words: Sequence[str]) -> tuple[int, str, str]:
        """Return the exit status of a command line, what it printed on stdout, and on stderr; -1 for an exception."""
        for name, place in self.places.items():
            words = [word.replace(name, place) for word in words]
        try:
            status = main(words)
        except Exception:
            return -1, self.capfd.readouterr().out, traceback.format_exc()
        return status, *self.capfd.readouterr()


@pytest.mark.parametrize(("count", "seed"), [(CHEAP, 0), pytest.param(MANY, 1, marks=pytest.mark.slow)])
def test_no_bad_command_line_has_a_fault(
    count: int,
    seed: int,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runner = Runner(tmp_path, tiny_folder, capfd)
    for words in random.Random(seed).sample(list(command_lines()), count):
        if count == MANY or "--compile=true" not in words:
            status, _, err = runner.run(words)
            assert not fault(status, err), words


def test_a_fault_is_seen() -> None:
    line = "compress: seed -1: a whole number\n"
    assert not fault(2, line)
    assert not fault(0, "a note\n")
    for status, err in (
        (-1, "Traceback ..."),
        (1, line),
        (2, "Traceback (most recent call last)\n" + line),
        (2, line + "and more\n"),
        (2, line + line),
        (2, "compress: \x1b[31m\n"),
        (0, line),
    ):
        assert fault(status, err), err
