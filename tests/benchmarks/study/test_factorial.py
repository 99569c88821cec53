"""Screens: half of all combinations of two-level factors, and the main effects in the report."""

import json
from dataclasses import replace
from itertools import combinations
from math import prod
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from benchmarks import COMPARISON, read_comparison, read_study, run_study
from benchmarks.study.entry import Trained
from benchmarks.study.factorial import Factor, Factorial
from compress.errors import UsageError
from compress.recipes import small
from compress.training import spec_to_train
from tests.benchmarks.study.conftest import HEAD, Settings

SCREEN = f"""
{HEAD.replace("deep", "base")}
[factorial]
run = {{command = "train-mwbp", arch = "resnet8", exits = 2, ensemble = 2}}
[[factorial.factor]]
name = "annealing"
low = {{}}
high = {{annealing = "last-third"}}
[[factorial.factor]]
name = "teacher"
low = {{}}
high = {{ensemble_teacher = 0.5}}
[[factorial.factor]]
name = "recipe"
low = {{}}
high = {{label_smoothing = 0.1, form = "norm-last", zero_scale = true, averaging = "ema"}}
"""
ONE_FACTOR = "a key is changed by one factor alone, name and command by none"


def factorial(count: int) -> Factorial:
    return Factorial(run={}, factor=tuple(Factor(name=str(n), low={}, high={f"key{n}": n}) for n in range(count)))


@pytest.mark.parametrize("count", range(3, 8))
def test_main_effects_are_orthogonal_and_the_base_is_among_the_runs(count: int) -> None:
    levels = factorial(count).levels
    rows = np.array(list(levels.values()))
    assert next(iter(levels)) == "base"
    assert levels["base"] == (-1,) * count
    assert len({*levels}) == 2 ** (count - 1)
    assert np.array_equal(rows.T @ rows, len(rows) * np.eye(count))


def test_with_five_factors_no_main_effect_is_mixed_up_with_two_or_three_others() -> None:
    rows = list(factorial(5).levels.values())
    for own in range(5):
        for size in (2, 3):
            for others in combinations([n for n in range(5) if n != own], size):
                assert sum(row[own] * prod(row[n] for n in others) for row in rows) == 0


def test_levels_in_words_have_what_all_runs_share() -> None:
    trunk = Factor(name="trunk", low={}, high={"arch": "wide", "widths": [8, 16]})
    others = tuple(Factor(name=name, low={name: 1}, high={}) for name in "ab")
    screen = Factorial(run={"arch": "deep", "ensemble": 2}, factor=(trunk, *others))
    assert screen.low == ("arch = deep", "a = 1", "b = 1")
    assert screen.high == ("arch = wide, widths = [8, 16]", "", "")


def test_the_bundled_screen_has_sixteen_runs_of_one_budget() -> None:
    study = read_study("screen-small")
    assert study.factorial is not None
    assert len(study.factorial.names) == 5
    assert len({entry.name for entry in study.runs}) == 16
    entries = [entry for entry in study.runs if isinstance(entry, Trained)]
    settings = {(str(entry.architecture), str(entry.method), entry.exits, entry.changes) for entry in entries}
    assert len(settings) == 16
    base = study.entry("base")
    assert isinstance(base, Trained)
    assert base.recipe(small()) == small()
    for entry in entries:
        spec = spec_to_train(entry.architecture, entry.method, entry.exits)
        assert len(entry.method.objective(spec).gammas) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "recipe"', 'name = "teacher"'), "3 to 7 different factors"),
        (('high = {annealing = "last-third"}', "high = {}"), "low and high levels are the same"),
        (("ensemble_teacher = 0.5", "ensemble_techer = 0.5"), "did you mean 'ensemble_teacher'"),
        (("label_smoothing = 0.1", "label_smoothing = 2"), "label_smoothing 2"),
        (('command = "train-mwbp", arch', "arch"), "command is missing"),
        (('averaging = "ema"', 'averaging = "emma"'), "did you mean 'ema'"),
        (("ensemble_teacher = 0.5", 'annealing = "first-third"'), f"factorial: annealing: {ONE_FACTOR}"),
        (("low = {}\nhigh = {ensemble_teacher = 0.5}", 'low = {annealing = "none"}\nhigh = {}'), ONE_FACTOR),
        (("ensemble_teacher = 0.5", 'name = "taught"'), f"factorial: name: {ONE_FACTOR}"),
        (("ensemble_teacher = 0.5", 'command = "train"'), f"factorial: command: {ONE_FACTOR}"),
    ],
)
def test_a_screen_is_read_strictly(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "screen.toml"
    assert change[0] in SCREEN
    file.write_text(SCREEN.replace(*change))
    with pytest.raises(UsageError) as error:
        read_study(str(file))
    assert message in str(error.value)


def test_a_study_may_have_the_screen_of_another(tmp_path: Path) -> None:
    screen, study = read_study("screen-small"), tmp_path / "study.toml"
    text = HEAD.replace("deep", "base") + 'runs_of = "screen-small"\n'
    study.write_text(text)
    own = read_study(str(study))
    assert (own.runs, own.factorial) == (screen.runs, screen.factorial)
    study.write_text(text + SCREEN[SCREEN.index("[factorial]") :])
    with pytest.raises(UsageError, match=r"runs_of: .* leave out \[factorial\]"):
        read_study(str(study))


def test_a_screen_reports_its_main_effects(settings: Settings, brief: object, tmp_path: Path) -> None:
    setting = settings(SCREEN, tmp_path / "runs")
    with patch("benchmarks.study.runner.Runner.measure"):
        runs = run_study(setting, out=tmp_path / "out")
    assert len(runs) == 4
    kept = read_comparison(tmp_path / "out")
    assert kept.screen is not None
    assert kept.screen.low == ("", "", "")
    assert {*kept.screen.levels.values()} == {*factorial(3).levels.values()}
    report = (tmp_path / "out" / "report.md").read_text()
    section = report[report.index("## Main effects") :]
    by_level = {kept.screen.levels[run.id]: run.exits[-1]["val_accuracy"] for run in runs}
    effect = np.mean([value if row[0] > 0 else -value for row, value in by_level.items()]) * 2
    assert f"{100 * effect:+z.2f}" in next(line for line in section.splitlines() if line.startswith("| annealing"))
    assert "| annealing = last-third" in section
    chosen = [
        title for title in ("Verdicts", "Pareto fronts", "The best network at each budget", "Bold") if title in report
    ]
    assert not chosen  # by test images
    assert report.count("**missing** for") == 1
    document = json.loads((tmp_path / "out" / COMPARISON).read_text())
    del document["screen"]["low"]  # as it was before low levels were kept
    (tmp_path / "out" / COMPARISON).write_text(json.dumps(document))
    assert read_comparison(tmp_path / "out").screen == replace(kept.screen, low=())
    assert "4 of 4 runs were made. With three factors the effect of each is mixed up with" in section
