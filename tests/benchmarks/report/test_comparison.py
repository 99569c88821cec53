"""Records: a report is made again from what is committed with it, byte for byte; what is no record is left alone.

After a change to what reports look like: `compress report DIR --out DIR`, of tests/benchmarks/comparison too.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import Comparison, read_comparison
from benchmarks.report.best_trial import Factors, Trial
from benchmarks.report.comparison import write_records
from benchmarks.results.claims import Claim
from benchmarks.results.predictions import read_right, read_scores
from compress.cli.app import main
from compress.errors import UsageError
from compress.runs import Run

SMALL = Path(__file__).parents[1] / "comparison"
REPORTS = Path(__file__).parents[3] / "reports"
COMMITTED = [SMALL, *sorted(path.parent for path in REPORTS.glob("*/comparison.json"))]


def content(directory: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob(pattern)}


@pytest.mark.parametrize("committed", COMMITTED, ids=lambda path: path.name)
def test_a_committed_report_is_made_again_byte_for_byte(committed: Path, tmp_path: Path) -> None:
    assert main(["report", str(committed), "--out", str(tmp_path)]) == 0
    for pattern in ("*.md", "*.csv", "runs/*/*.json*"):
        assert content(tmp_path, pattern)
        assert content(tmp_path, pattern) == content(committed, pattern)
    made, kept = (json.loads((place / "comparison.json").read_text()) for place in (tmp_path, committed))
    wrote = kept["versions"]["matplotlib"]
    assert json.dumps(made | {"versions": kept["versions"]}) == json.dumps(kept)
    if wrote != version("matplotlib"):
        pytest.skip(f"figures are matplotlib {wrote}'s; this is {version('matplotlib')}, which writes other outlines")
    assert content(tmp_path, "*.svg")
    assert content(tmp_path, "*.svg") == content(committed, "*.svg")


def test_what_a_report_takes_is_kept(runs: list[Run], tmp_path: Path) -> None:
    given = Comparison(
        runs=runs,
        title="A title",
        about="About",
        reference=runs[0].id,
        claims=[Claim(claim="Exits help", of=(runs[1].id,), against=(runs[0].id,), if_equivalent="they are free")],
        trials=[Trial(arm="l1", factors=Factors(rate=3.0), accuracy=0.5, learning_rate=0.1, weight_decay=0.0)],
        failures=["l1, seed 0: cannot write to /home/me/runs: disk is full"],
    )
    kept = write_records(given, tmp_path)
    assert kept.failures == ["l1, seed 0: cannot write to runs: disk is full"]
    assert read_comparison(tmp_path) == kept
    assert [run.record for run in kept.runs] == [run.record for run in runs]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_one_contrast_of_older_reports_is_a_claim(runs: list[Run], tmp_path: Path) -> None:
    first, second = runs[1].id, runs[0].id
    write_records(Comparison(runs=runs), tmp_path)
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert document.pop("claims") == []
    for primary, claims in (([first, second], [{first: second}]), (None, [])):
        (tmp_path / "comparison.json").write_text(json.dumps(document | {"primary": primary}))
        assert [claim.pairs for claim in read_comparison(tmp_path).claims] == claims


def test_what_was_right_is_the_same_without_predictions(runs: list[Run], tmp_path: Path) -> None:
    kept = write_records(Comparison(runs=runs), tmp_path).runs
    for run, record in zip(runs, kept, strict=True):
        assert not (record.path / "predictions.npz").exists()
        assert read_right(record)[0] == read_right(run)[0]
        assert np.array_equal(read_right(record)[1], read_right(run)[1])
    shuffled = json.loads((kept[0].path / "correctness.json").read_text()) | {"labels": "others"}
    (kept[0].path / "correctness.json").write_text(json.dumps(shuffled))
    assert [line.split(":")[0] for line in read_scores(kept)[1]] == [f"run {runs[0].id}"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"unreadable": "run x: predictions.npz is missing"}, "run x: predictions.npz is missing"),
        ({"images": 100, "labels": "", "right": ["ff"]}, "corrupt"),
        ({"images": 8, "labels": "", "right": ["ff"]}, "the run has 1 exit"),
        ({"images": 100, "labels": "", "right": ["00" * 13]}, "other accuracies"),
        ([], "corrupt"),
    ],
)
def test_correctness_that_is_not_the_runs_is_named_in_a_line(
    document: object, reason: str, runs: list[Run], tmp_path: Path
) -> None:
    (tmp_path / "correctness.json").write_text(json.dumps(document))
    record = replace(runs[0].record, results={"exits": [runs[0].exits[-1] | {"test_accuracy": 0.5}]})
    with pytest.raises(UsageError, match=reason):
        read_right(Run(tmp_path, record))


def test_no_place_on_the_machine_is_kept(runs: list[Run], tmp_path: Path) -> None:
    command = "compress prune --from /home/me/runs/x:2 --dataset 'folder:/home/me/my flowers' --seed 0"
    data = runs[0].record.data | {"name": "folder:/home/me/my flowers"}
    run = Run(runs[0].path, replace(runs[0].record, data=data, command=command))
    [kept] = write_records(Comparison(runs=[run]), tmp_path).runs
    assert kept.record.data["name"] == "folder:my flowers"
    assert kept.record.command == "compress prune --from x:2 --dataset 'folder:my flowers' --seed 0"


def test_records_of_others_go_and_runs_stay(runs: list[Run], tmp_path: Path) -> None:
    write_records(Comparison(runs=runs[:3]), tmp_path)
    (tmp_path / "runs" / runs[1].id / "model.safetensors").write_bytes(b"weights")  # a run now, and no record
    (tmp_path / "runs" / "foreign").mkdir()
    write_records(Comparison(runs=runs[3:]), tmp_path)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {runs[1].id, runs[3].id, "foreign"}
    before = content(tmp_path / "runs" / runs[1].id, "*")
    with pytest.raises(UsageError, match="not a run's record and would be overwritten"):
        write_records(Comparison(runs=runs[:2]), tmp_path)
    assert content(tmp_path / "runs" / runs[1].id, "*") == before


def test_a_report_beside_its_runs_changes_none_of_them(runs: list[Run], tmp_path: Path) -> None:
    shutil.copytree(runs[0].path, tmp_path / "runs" / runs[0].id)
    own, before = Run(tmp_path / "runs" / runs[0].id, runs[0].record), content(tmp_path / "runs", "*.*")
    assert write_records(Comparison(runs=[own]), tmp_path).runs == [own]
    assert content(tmp_path / "runs", "*.*") == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda document: "no JSON", "corrupt"),
        (lambda document: [], "corrupt"),
        (lambda document: {key: value for key, value in document.items() if key != "runs"}, "corrupt"),
        (lambda document: document | {"schema_version": 2}, "schema 2, this version reads 1"),
        (lambda document: document | {"about": 5}, "corrupt"),
        (lambda document: document | {"failures": "one"}, "corrupt"),
        (lambda document: document | {"runs": ["../x"]}, "corrupt"),
        (lambda document: document | {"trials": [{"arm": "l1"}]}, "corrupt"),
        (lambda document: document | {"runs": [*document["runs"], "gone"]}, "names 1 run.* gone"),
    ],
)
def test_a_comparison_that_cannot_be_read_is_one_line(
    change: Callable[[dict[str, Any]], object], reason: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    report = tmp_path / "report"
    shutil.copytree(SMALL, report)
    changed = change(json.loads((report / "comparison.json").read_text()))
    (report / "comparison.json").write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(UsageError, match=reason):
        read_comparison(report)
    assert refused("report", report, "--out", tmp_path / "out").startswith(f"compress: report {report}: ")


def test_that_records_have_no_weights_is_said(refused: Callable[..., str]) -> None:
    id = read_comparison(SMALL).runs[0].id
    assert "a report's records have no weights" in refused("bench", id, "--runs", SMALL / "runs")
