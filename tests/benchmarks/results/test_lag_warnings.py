"""MACs that fall where latency does not are said wherever a pruned network is measured, with what else to try."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines import Budget, Technique, prune
from baselines.macs_vs_latency import lags, remedy
from benchmarks.results.lag_warnings import lag_notes, lagging, warn_of_lag
from benchmarks.results.rows import names_by_series, rows, summarise
from compress import Place
from compress.cli.app import app
from compress.cli.prune_command import TechniqueOptions
from compress.data import Dataset
from compress.networks import spec_of
from compress.recipes import Recipe
from compress.runs import Run, read_run


@pytest.fixture(scope="module")
def chained(runs: list[Run], tiny: Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The first of the runs, pruned to a quarter in two steps, of which the first is not among what is measured."""
    return prune(
        runs[0],
        tiny,
        budget=Budget(speedup=4),
        technique=Technique(steps=2),
        recipe=brief,
        place=Place(runs=tmp_path_factory.mktemp("chained")),
    )


def row(run: Run, ratio: float, **others: Any) -> dict[str, Any]:
    conditions = {"run": run.id, "engine": "eager", "precision": "fp32", "batch_size": 1}
    size = {key: run.exits[-1][key] for key in ("exit", "macs", "params")}
    return conditions | size | {"ratio": (ratio - 0.02, ratio, ratio + 0.02)} | others


@pytest.mark.parametrize(
    ("speedup", "fastest", "expected"),
    [(4, 0.51, True), (4, 0.49, False), (1.05, 1.0, False), (1.2, 1.0, True), (455, 0.8, True)],
)
def test_a_latency_lags_that_falls_by_less_than_the_root(speedup: float, fastest: float, expected: bool) -> None:
    assert lags(speedup, fastest) == expected


def test_a_pruned_network_lags_behind_what_it_was_pruned_from_by_any_number_of_steps(
    runs: list[Run], chained: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, pruned = runs[0], runs[3]
    measured = [whole, pruned, chained]
    for ratio, expected in ((0.4, []), (0.6, [chained.id]), (0.8, [pruned.id, chained.id])):
        rows = [row(whole, 1.0), row(pruned, ratio), row(chained, ratio)]
        assert [lag.run.id for lag in lagging(measured, rows)] == expected
    untimed = [{**row(whole, 1.0), "precision": "int8"}, {**row(pruned, 0.8), "precision": "int8"}]
    assert not list(lagging(measured, [{name: each[name] for name in each if name != "ratio"} for each in untimed]))
    slower = [row(whole, 2.0), row(chained, 1.6)]  # ratios are to another network then
    warn_of_lag(measured, slower)
    line = capsys.readouterr().err
    assert line.startswith(
        "ResNet-14, l1 in 2 steps 3.98x: MACs 3.98 times fewer, 1.25 times as fast (eager fp32, batch 1): "
    )
    assert "(--round-to 8)" in line
    assert "(--method blocks)" in line
    apart = [row(whole, 1.0, session="one"), row(chained, 0.9, session="another")]
    assert not list(lagging(measured, apart))
    assert not list(lagging(measured, [row(chained, 0.9)]))


def test_whoever_measures_or_reports_a_pruned_network_is_told(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[..., tuple[int, str, str]]
) -> None:
    """Rounds in which both take the same time."""
    here = [read_run(Path(shutil.copytree(run.path, tmp_path / run.id))) for run in (runs[0], runs[3])]
    seconds = np.ones((6, 3))
    monkeypatch.setattr("benchmarks.measuring.latency.interleaved", lambda *calls, **options: (seconds, None))
    monkeypatch.setattr("benchmarks.measuring.costs_file.measured_costs", lambda spec, *_: [{}] * len(spec.exits))
    _, _, err = compress("bench", *(run.path for run in here), "--batch-size", "1", "--rounds", "6")
    assert "1.00 times as fast (eager fp32, batch 1): narrow layers" in " ".join(err.split())
    [note] = lag_notes(here, names_by_series(summarise(rows(here))))
    assert "eager fp32, batch 1: ResNet-14, l1" in note
    assert "1.00 times as fast" in note


@pytest.mark.parametrize("arch", ["resnet14", "torchvision:resnet18"])
@pytest.mark.parametrize(
    "technique",
    [Technique(), Technique(round_to=8), Technique(method="scratch-e")],
    ids=lambda technique: technique.label,
)
def test_what_is_advised_are_options_that_prune_takes(technique: Technique, arch: str) -> None:
    advice = remedy(technique, spec_of(arch))
    options = [part.partition(")")[0].split() for part in advice.split("(")[1:]]
    for option in options:
        _, bound, _ = app.parse_args(["prune", "--speedup", "2", *option], exit_on_error=False, print_error=False)
        chosen: TechniqueOptions = bound.arguments["technique"]
        made = chosen.technique()
        assert (made.round_to > 1) or not (made.method == "blocks" and spec_of(arch).foreign)
    assert len(options) == (1 if technique.round_to > 1 else 2)
