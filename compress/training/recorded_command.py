"""The command line of a run, as its record has it: the shell command that makes the same run again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from compress.data import Dataset
from compress.hardware import Precision
from compress.networks import Spec, default_heads, place_exits
from compress.recipes import OF_REFERENCE, Recipe, is_named, options_of
from compress.runs import Run
from compress.training.methods import SINGLE_EXIT, Method


def command_line(
    own: list[str],
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    precision: Precision,
    *,
    epochs: int | None = None,
    changes: Sequence[str] = (),
) -> str:
    """The shell command of a run: its own words, then the options that every kind of run has.

    A recipe that was made in Python cannot be given by options; a comment points to the record instead.

    Args:
        own: the words after ``compress``, such as ``["train", "--arch", "resnet20"]``.
        recipe: the run's recipe. For fine-tuning, the recipe that it was derived from, with `epochs`.
        epochs: epochs of fine-tuning; None for a training.
        changes: further options that change the recipe.
    """
    fine_tuning = epochs is not None
    options = ["--dataset", dataset.name, *dataset.options, "--recipe", recipe.name]
    options += ["--epochs", str(epochs if fine_tuning else recipe.epochs), *changes]
    options += options_of(recipe, ["class_weights"]) if fine_tuning else options_of(recipe)
    command = shlex.join(["compress", *own, *options, "--seed", str(seed), "--precision", precision])
    changed = OF_REFERENCE if "--from" in own else ["epochs", "class_weights"]  # a named run says what it held out
    named = is_named(recipe, changed) if fine_tuning else is_named(recipe)
    return command if named else f"{command}  # with a recipe made in Python: see config.recipe in run.json"


def run_option(run: Run, runs: Path) -> str:
    """The name of a run on a command line: its id if it is in the directory `runs`, else its absolute path."""
    return run.id if run.path.parent == runs else str(run.path.resolve())


def training_words(spec: Spec, method: Method, teacher: Run | None, trunk: Run | None, runs: Path) -> list[str]:
    """The words of a training's command that name the network, its exits, the method, and other runs."""
    words = ["train" if method.name in SINGLE_EXIT else "train-mwbp", "--arch", spec.arch]
    if method.name not in SINGLE_EXIT:
        words += ["--exits", _exits_option(spec)]
        heads = [exit.head for exit in spec.exits[:-1]]
        words += ["--head", heads[0]] if heads and method.head is None and heads != default_heads(spec) else []
    words += method.options()
    words += ["--teacher", run_option(teacher, runs)] if teacher else []
    return words + (["--trunk", run_option(trunk, runs)] if trunk else [])


def _exits_option(spec: Spec) -> str:
    numbers = [exit.block for exit in spec.exits]
    if not spec.foreign and tuple(numbers) == place_exits(len(numbers), len(spec.blocks)):
        return str(len(numbers))
    return ",".join(spec.exit_names)
