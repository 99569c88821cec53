"""The README's commands and its Python are run as they stand there, on small real data, by a shorter recipe."""

import re
import shlex
from pathlib import Path

import pytest

from compress.cli.app import main
from compress.recipes import RECIPES, Recipe

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line for language, block in BLOCKS if not language for line in block.splitlines() if line.startswith("compress ")
]
PYTHON = [block for language, block in BLOCKS if language == "python"]
TRAINING = ("train", "train-mwbp", "prune", "study")


def test_the_readmes_commands_do_their_jobs_in_order(
    tiny_folder: Path,
    brief: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, brief.name, lambda: brief)
    assert {shlex.split(line)[1] for line in COMMANDS} == {
        *("train", "train-mwbp", "prune", "bench", "probe", "report", "data")
    }
    for line in COMMANDS:
        arguments = shlex.split(line)[1:]
        small = ["--dataset", f"folder:{tiny_folder}"] if arguments[0] in TRAINING else []
        small += ["--rounds", "2"] if arguments[0] == "bench" else []
        assert main([*arguments, *small]) == 0, (line, capsys.readouterr().err)
    assert (tmp_path / "report" / "report.md").exists()


def test_the_readmes_python_runs(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PYTHON
    for block in PYTHON:
        assert '"fashion-mini"' in block
        exec(block.replace('"fashion-mini"', repr(f"folder:{tiny_folder}")), {})


def test_the_tree_in_the_readme_is_the_tree() -> None:
    root = Path(__file__).parents[1]
    [tree] = [block for _, block in BLOCKS if "cli.py" in block]
    for line in tree.splitlines():
        name = line.split()[0]
        assert (root / "compress" / name).exists() if line.startswith("  ") else (root / name).exists(), line
