"""Messages help: the commands and options that they name exist, and recorded commands run."""

import ast
import functools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.cli.app import app
from compress.recipes import recipe_named

HOME = Path(__file__).parents[2]
SAYING = {"UsageError", "DivergedError", "KeyboardInterrupt", "print", "InUseError"}
OF_OTHERS = {"--nproc-per-node"}  # torchrun's
HIDDEN = "…"  # stands for what a message puts in
Command = Callable[..., tuple[int, str, str]]


@functools.cache
def messages() -> list[tuple[str, str]]:
    """Return where the packages raise or print a text, and the text; values in it are hidden."""
    found = []
    for package in ("compress", "benchmarks", "baselines"):
        for file in sorted((HOME / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and _name(node.func) in SAYING:
                    found += [(f"{file.name}:{node.lineno}", _text(argument)) for argument in node.args]
    return found


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _text(node: ast.AST) -> str:
    """Return the literal parts of an expression, in order."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else HIDDEN
    if isinstance(node, ast.FormattedValue):
        return HIDDEN
    return "".join(map(_text, ast.iter_child_nodes(node)))


def options() -> set[str]:
    """Return all options of all commands."""
    commands = [app[name] for name in app if not name.startswith("-")]
    return {name for command in commands for part in command.assemble_argument_collection() for name in part.names}


def test_every_option_that_a_message_names_is_there() -> None:
    found = [
        (where, option)
        for where, text in messages()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+(?![\w-]*…)", text)
    ]
    assert len(found) > 50
    known = options() | OF_OTHERS
    assert not [(where, option) for where, option in found if option not in known]


def test_every_command_that_a_message_names_parses() -> None:
    found = []
    for where, text in messages():
        for words in re.findall(r"compress ((?:study|report|train-mwbp|train|prune|bench|probe|data)[ \w./-]*)", text):
            command = [word for word in words.split() if word == word.lower() or word.startswith("--")]
            found.append(where)
            assert command[0] in app, (where, words)
    assert "report.py" in " ".join(found)
    for given in (["study", "quickstart"], ["report", "RUNS_DIR", "--out", "there"], ["bench", "--all", "RUNS_DIR"]):
        app.parse_args(given, exit_on_error=False, print_error=False)


def test_every_recipe_that_a_message_names_does_what_it_says() -> None:
    named = [(where, name) for where, text in messages() for name in re.findall(r"--recipe ([a-z]+)", text)]
    assert {"setting.py", "splits.py"} <= {where.partition(":")[0] for where, _ in named}
    for where, name in named:
        recipe = recipe_named(name)
        held_out = recipe.validation + recipe.calibration
        assert held_out == 0 if where.startswith("splits.py") else recipe.validation > 0, where


@pytest.mark.parametrize(
    "given",
    [
        "train --extra-decay 2 --widths 4,8,16 --form post-activation --stochastic-depth 0.2",
        "train-mwbp --exits 1,end --width 2 --gamma 0.25 --head relu-gap-fc --self-distillation 0.1",
        "train-mwbp --exits 2 --update sequential --precision fp32 --stream --workers 0",
    ],
)
def test_a_recorded_command_finds_its_own_run(given: str, compress: Command, tiny_folder: Path, tmp_path: Path) -> None:
    small = ["--arch", "resnet8", "--epochs", "1", "--dataset", f"folder:{tiny_folder}"]
    status, out, err = compress(*given.split(), *small, "--runs", tmp_path / "runs", "--json")
    assert status == 0, err
    [record] = json.loads(out)["runs"]
    program, *words = shlex.split(record["command"], comments=True)
    assert program == "compress"
    status, out, err = compress(*words, "--runs", tmp_path / "runs", "--json")
    assert (status, json.loads(out)["runs"][0]["id"]) == (0, record["id"])
    assert "finished before" in err
