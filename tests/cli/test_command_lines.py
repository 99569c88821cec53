"""A thousand bad command lines: each does what it says, or is refused in one line; none hangs, or ends in a trace."""

import json
import random
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_lines import FILE, Outcome, command_lines, inside, prepare, run

PATIENCE = 900  # seconds of silence that are a hang, on a busy machine too
CHEAP, MANY = 60, 1200  # of some 7,000


def sampled(count: int, seed: int = 0) -> list[list[str]]:
    """So many command lines, the same every time."""
    return random.Random(seed).sample(list(command_lines()), count)


class Runner:
    """A process that runs command lines one after another; it is started anew when one of them has ended it."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def __enter__(self) -> "Runner":
        command = [sys.executable, str(FILE), str(self.data)]
        self.process: subprocess.Popen[Any] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=FILE.parents[2], bufsize=0
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def outcome(self, words: Sequence[str]) -> Outcome:
        """What a command line comes to, also where it ends the process or does not end at all."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        if line:
            return Outcome(*json.loads(line))
        how = f"died: {self.process.wait()}" if ready else f"hangs: silent for {PATIENCE} seconds"
        self.__exit__()
        self.__enter__()
        return Outcome(-1, "", "", how)


def faults(data: Path, lines: Sequence[Sequence[str]]) -> Iterator[tuple[Sequence[str], str]]:
    """The command lines that have a fault, and which."""
    with Runner(data) as runner:
        for words in lines:
            if fault := runner.outcome(words).fault:
                yield words, fault


def test_a_sample_of_bad_command_lines_has_no_fault(tiny_folder: Path, tmp_path: Path) -> None:
    places = prepare(tmp_path, tiny_folder)
    with inside(tmp_path / "made"):
        for words in (words for words in sampled(CHEAP) if "--compile=true" not in words):
            fault = run(words, places).fault
            assert not fault, f"{words}: {fault}"


@pytest.mark.slow
def test_no_bad_command_line_has_a_fault(tiny_folder: Path) -> None:
    found = [f"{words}: {fault}" for words, fault in faults(tiny_folder, sampled(MANY, seed=1))]
    assert not found, "\n\n".join(found)


def test_a_fault_is_seen(tiny_folder: Path) -> None:
    """The oracle itself: what a crash, a foreign word, a second line and a bare status come to."""
    line = "compress: seed -1: a whole number\n"
    assert not Outcome(2, "", line).fault
    assert not Outcome(0, "out", "a note\n").fault
    for outcome in (
        Outcome(-1, "", "", "Traceback ..."),
        Outcome(1, "", line),
        Outcome(2, "", "Traceback (most recent call last)\n" + line),
        Outcome(2, "", line + "and more\n"),
        Outcome(2, "", line + line),
        Outcome(2, "", "compress: \x1b[31m\n"),
        Outcome(0, "", line),
    ):
        assert outcome.fault, outcome
