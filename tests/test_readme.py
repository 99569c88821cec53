"""README.md, and the pages that show commands and Python: all of it is run as it stands there, on small real data."""

import re
import shlex
from pathlib import Path

import pytest

from compress.cli.app import main
from compress.recipes import RECIPES, Recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LONGEST = 140  # lines
SHOWN = [README, *((ROOT / "docs" / page).read_text() for page in ("using.md", "networks.md"))]
BLOCKS = [block for text in SHOWN for block in re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL)]
COMMANDS = dict.fromkeys(
    line for language, block in BLOCKS if not language for line in block.splitlines() if line.startswith("compress ")
)
# What a reader has to fill in, what takes minutes, and what other tests run.
ON_OTHER_MACHINES = ("RUN...", "--all", "folder:photos", "bundle", "my_net.pt")
PYTHON = [block for language, block in BLOCKS if language == "python"]
TRAINING = ("train", "train-mwbp", "prune", "study")
SHALLOWER = {"resnet110": "resnet26", "resnet44": "resnet14"}  # in the place of deep networks, which take minutes


def test_the_commands_that_are_shown_do_their_jobs_in_order(
    tiny_folder: Path,
    brief: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, brief.name, lambda: brief)
    lines = [line for line in COMMANDS if not any(word in shlex.split(line) for word in ON_OTHER_MACHINES)]
    assert {shlex.split(line)[1] for line in lines} == {
        *TRAINING[:3],
        "bench",
        "probe",
        "report",
        "select",
        "export",
        "exits",
    }
    for line in lines:
        for deep, shallow in SHALLOWER.items():
            line = line.replace(deep, shallow)
        arguments = shlex.split(line)[1:]
        small = ["--dataset", f"folder:{tiny_folder}"] if arguments[0] in TRAINING else []
        small += ["--rounds", "2"] if arguments[0] == "bench" else []
        assert main([*arguments, *small]) == 0, (line, capsys.readouterr().err)
    assert (tmp_path / "report" / "report.md").exists()


def test_the_python_that_is_shown_runs(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PYTHON
    for block in PYTHON:
        assert '"fashion-mini"' in block
        exec(block.replace('"fashion-mini"', repr(f"folder:{tiny_folder}")), {})


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_the_tree_in_the_readme_is_the_tree() -> None:
    [tree] = re.findall(r"## The tree\n\n```text\n(.*?)```", README, flags=re.DOTALL)
    shown: list[str] = []
    place = ROOT
    for line in tree.splitlines():
        names = [name.rstrip(",") for name in line.split("  ")[0 if not line.startswith(" ") else 1].split()]
        if not line.startswith(" "):
            place = ROOT / names[0]
            names = [""]
        for name in names:
            assert (place / name).exists(), line
            shown.append(str((place / name).relative_to(ROOT)))
    for package in ("compress", "baselines", "benchmarks"):
        rooms = {f"{package}/{room.parent.name}" for room in (ROOT / package).glob("*/__init__.py")}
        assert rooms <= set(shown), "every room is in the tree"
