"""Sessions: arms tuned alike on validation images, curves from one reference, a run that fails named and outlived."""

from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer

import pytest
from filelock import FileLock

from benchmarks import Setting, read_study, run_study
from benchmarks.results.rows import rows
from benchmarks.study.graph import Node
from benchmarks.study.runner import Session, _alone
from compress.data import Dataset
from compress.data.dataset import Labelled
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.runs import InUseError, Run, claimed, finished_runs

STUDY = """
title = "Curves"
about = "A study of a test."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
seeds = [0, 1]
reference = "deep"
primary = ["multi", "impossible"]

[tuning]
rates = [30, 1]
at = 1

[[run]]
name = "deep"
command = "train"
arch = "resnet8"

[[run]]
name = "multi"
command = "train-mwbp"
arch = "resnet8"
exits = 2

[[run]]
name = "l1"
command = "prune"
from = "deep"
speedup = [1.5, 2.5]

[[run]]
name = "impossible"
command = "prune"
from = "deep"
speedup = 1000

[[run]]
name = "dependent"
command = "prune"
from = "impossible"
ratio = 0.2

[[run]]
name = "exits"
command = "prune"
from = "multi"
match = "multi:1"
"""
ALL = """
title = "All"
about = "References tuned too."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
reference = "deep"

[tuning]
rates = [0.1, 1]
all = true

[[run]]
name = "deep"
command = "train"
arch = "resnet8"

[[run]]
name = "l1"
command = "prune"
from = "deep"
ratio = 0.3
"""
RECORDS = """
title = "Records"
about = "Arms whose runs differ by more than their budget."
takes = "seconds"
dataset = "fashion-mini"
recipe = "quick"
reference = "deep"

[[run]]
name = "deep"
command = "train"
arch = "resnet14"

[[run]]
name = "steps"
command = "prune"
from = "deep"
steps = 2
speedup = [1.3, 2]

[[run]]
name = "distilled"
command = "prune"
from = "deep"
method = "distilled"
nearest = true
speedup = [2, 2.1]

[[run]]
name = "scratch"
command = "prune"
from = "deep"
method = "scratch-b"
speedup = [1.3, 2]
"""


def conducted(file: Path, dataset: Dataset, recipe: Recipe, *, runs: Path, out: Path) -> list[Run]:
    study = read_study(str(file))
    setting = Setting(study=study, dataset=dataset, recipe=recipe, device="cpu", precision="fp32", runs=runs)
    return run_study(setting, out=out)


@pytest.fixture(scope="module")
def small(tiny: Dataset) -> Dataset:
    """The middles of the images, 12x12."""
    train, test = (
        Labelled(images=part.images[..., 1:13, 1:13].contiguous(), labels=part.labels)
        for part in (tiny.train, tiny.test)
    )
    return replace(tiny, name="small", train=train, test=test)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("session")


@pytest.fixture(scope="module")
def made(small: Dataset, brief: Recipe, place: Path) -> list[Run]:
    (place / "curves.toml").write_text(STUDY)
    return conducted(place / "curves.toml", small, brief, runs=place / "runs", out=place / "out")


@pytest.fixture(scope="module")
def report(made: list[Run], place: Path) -> str:
    return (place / "out" / "report.md").read_text()


def _requested(run: Run) -> tuple[str, float] | None:
    return next(iter(run.record.results.get("requested", {}).items()), None)


def _rate(run: Run) -> float:
    return float(run.record.config["recipe"]["learning_rate"])


def test_every_arm_is_a_run_a_budget_and_seed_by_the_rate_that_was_best_on_validation_images(
    made: list[Run], place: Path, brief: Recipe
) -> None:
    parents = {run.id for run in made if run.record.method == "bp"}
    pruned = [run for run in finished_runs(place / "runs")[0] if run.record.parent in parents]
    trials = [run for run in pruned if run.record.seed == 0 and _requested(run) == ("speedup", 1.5)]
    assert sorted(map(_rate, trials)) == [
        brief.fine_tune_learning_rate,
        pytest.approx(30 * brief.fine_tune_learning_rate),
    ]
    best = max(trials, key=lambda run: (run.exits[-1]["val_accuracy"], -_rate(run)))
    reported = [run for run in made if run.record.parent in parents]
    assert [(run.record.seed, _requested(run)) for run in reported] == [
        (seed, ("speedup", speedup)) for seed in (0, 1) for speedup in (1.5, 2.5)
    ]
    assert {_rate(run) for run in reported} == {_rate(best)}
    assert best.id in [run.id for run in reported]
    assert len(pruned) == len(reported) + 1  # the losing trial; the winner was not run twice


def test_the_trials_are_in_the_report_and_losers_nowhere_else(report: str, made: list[Run], place: Path) -> None:
    section = report[report.index("## Tuning") :]
    assert "| arm | rate x1 | rate x30 | chosen rate, decay |" in section
    [line] = [line for line in section.splitlines() if line.startswith("| l1 at speedup 1.5 |")]
    assert line.count("**") == 2
    assert "| impossible at speedup 1,000 | failed | failed | - |" in section
    losers = {run.id for run in finished_runs(place / "runs")[0]} - {run.id for run in made}
    assert len(losers) == 2
    assert not any(id in report for id in losers)


def test_what_cannot_be_made_is_named_with_its_reason_and_the_rest_goes_on(report: str, made: list[Run]) -> None:
    lines = [line for line in report[report.index("## Did not run") :].splitlines() if line.startswith("- ")]
    assert lines[0].startswith("- did not run: impossible at speedup 1,000, seed 0: ")
    assert "cannot be reached" in lines[0]
    assert "- did not run: dependent at ratio 0.2, seed 0: impossible did not run" in lines
    assert "- did not run: dependent at ratio 0.2, seed 1: none of its trials finished" in lines
    assert lines[-1] == "- did not run: the primary contrast, multi against impossible: one of them has no run"
    assert len(made) == 2 + 2 + 4 + 2


def test_a_multi_exit_net_is_pruned_with_its_exits_and_to_the_macs_of_one(made: list[Run]) -> None:
    for seed in (0, 1):
        multi, pruned = (
            run for run in made if run.record.method != "bp" and len(run.exits) == 2 and run.record.seed == seed
        )
        assert pruned.record.parent == multi.id
        assert pruned.exits[-1]["macs"] == pytest.approx(multi.exits[0]["macs"], rel=0.01)


def test_the_curves_are_a_table_and_a_figure(report: str, made: list[Run], place: Path) -> None:
    section = report[report.index("### Pruning curves") : report.index("### Pruning, requested")]
    header, _, line = [line for line in section.splitlines() if line.startswith("|")][:3]
    assert header.startswith("| arm | speedup 1.50 | speedup 2.50 | macs ")
    frame = rows(made)
    means = [100 * frame[frame["requested_speedup"] == speedup]["test_accuracy"].mean() for speedup in (1.5, 2.5)]
    cells = line.split(" | ")
    assert cells[0].startswith("| l1")
    assert [cell.split(" ± ")[0] for cell in cells[1:3]] == [f"{mean:.2f}" for mean in means]
    assert all((place / "out" / f"pruning-curves.{suffix}").exists() for suffix in ("svg", "png"))


def test_started_again_it_finds_all_and_reports_the_same(
    made: list[Run], place: Path, small: Dataset, brief: Recipe, report: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / "runs").glob("*/run.json")}
    again = conducted(place / "curves.toml", small, brief, runs=place / "runs", out=place / "again")
    assert [run.id for run in again] == [run.id for run in made]
    assert {path: path.stat().st_mtime_ns for path in (place / "runs").glob("*/run.json")} == before
    assert (place / "again" / "report.md").read_text() == report


def test_nothing_is_tuned_without_validation_images(
    place: Path, made: list[Run], small: Dataset, brief: Recipe
) -> None:
    for share in (0.0, 0.001):
        blind = Recipe.from_json(brief.to_json() | {"validation": share})
        with pytest.raises(UsageError, match="recipe quick holds out none to tune on: take more"):
            conducted(place / "curves.toml", small, blind, runs=place / "blind", out=place / "out")
        assert not (place / "blind").exists()
        own = replace(small, validation=small.test)
        study = read_study(str(place / "curves.toml"))
        Setting(study=study, dataset=own, recipe=blind, device="cpu", precision="fp32", runs=place / "blind")


def test_without_its_reference_a_study_stops(place: Path, small: Dataset, brief: Recipe) -> None:
    text = (
        STUDY[: STUDY.index("[[run]]")]
        .replace('"deep"', '"impossible"')
        .replace('primary = ["multi", "impossible"]\n', "")
        + """
[[run]]
name = "impossible"
command = "prune"
arch = "resnet8"
speedup = 1000
"""
    )
    (place / "broken.toml").write_text(text)
    with pytest.raises(
        UsageError, match=r"reference did not run: impossible at speedup 1,000, seed 0, rate x30: .* cannot be reached"
    ):
        conducted(place / "broken.toml", small, brief, runs=place / "broken", out=place / "broken-out")
    assert not (place / "broken-out").exists()


def test_an_interruption_is_no_failure_of_one_run(
    place: Path, made: list[Run], small: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.study.runner.train", interrupted)
    with pytest.raises(KeyboardInterrupt, match="0 of 18 runs are done; the same command goes on"):
        conducted(place / "curves.toml", small, brief, runs=place / "none", out=place / "none-out")
    assert not (place / "none-out").exists()


def test_all_can_be_tuned_references_too(
    place: Path, small: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was trained is reported, where its latency cannot be measured."""

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("benchmarks.study.runner.bench", failing)
    (place / "all.toml").write_text(ALL)
    deep, pruned = conducted(place / "all.toml", small, brief, runs=place / "all", out=place / "all-out")
    trained = [run for run in finished_runs(place / "all")[0] if run.record.kind == "train"]
    assert sorted(map(_rate, trained)) == [pytest.approx(0.1 * brief.learning_rate), brief.learning_rate]
    assert deep.id == max(trained, key=lambda run: (run.exits[-1]["val_accuracy"], -_rate(run))).id
    assert pruned.record.parent == deep.id
    assert "\n- did not run: latency: RuntimeError: out of memory\n" in (place / "all-out" / "report.md").read_text()


def test_another_process_that_measures_is_waited_for_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, held, go = tmp_path / "lock", Event(), Event()

    def other() -> None:
        with FileLock(path):
            held.set()
            go.wait()

    Thread(target=other).start()
    held.wait()
    Timer(0.2, go.set).start()
    with _alone(path):
        assert go.is_set()
    with FileLock(path, timeout=0):
        pass  # it was let go of
    assert "waiting for another process, which measures" in capsys.readouterr().err


def test_what_another_process_holds_is_not_attempted_until_it_lets_go(
    tmp_path: Path, small: Dataset, brief: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone.toml").write_text(
        ALL[: ALL.index("[tuning]")] + ALL[ALL.index("[[run]]") : ALL.rindex("[[run]]")]
    )
    run, held, holding, go = Session._run, tmp_path / "held", Event(), Event()
    attempts: list[Node] = []

    def other() -> None:
        with claimed(held):
            holding.set()
            go.wait()

    def refused_at_first(session: Session, node: Node) -> Run:
        attempts.append(node)
        if len(attempts) == 1:
            Thread(target=other).start()
            holding.wait()
            Timer(1, go.set).start()
            raise InUseError(held)
        return run(session, node)

    monkeypatch.setattr("benchmarks.study.runner.PATIENCE", 0.1)
    monkeypatch.setattr(Session, "_run", refused_at_first)
    conducted(tmp_path / "alone.toml", small, brief, runs=tmp_path / "runs", out=tmp_path / "out")
    assert len(attempts) == 2


def test_an_arm_is_one_line_whatever_its_budgets_entail(place: Path, small: Dataset, brief: Recipe) -> None:
    """Parents pruned to steps of their own, shallower nets, and epochs that depend on the budget."""
    (place / "records.toml").write_text(RECORDS)
    made = conducted(place / "records.toml", small, brief, runs=place / "records", out=place / "records-out")
    frame = rows(made).set_index("run")
    assert frame.groupby("arm")["arm_key"].nunique().to_dict() == {
        **dict.fromkeys(("bp", "l1 in 2 steps", "distilled", "scratch-b of l1"), 1)
    }
    assert frame.groupby("arm_key").size().tolist().count(2) == 3
    report = (place / "records-out" / "report.md").read_text()
    assert "Did not run" not in report
    assert "| ResNet-8, distilled 2.16x (speedup 2) |" in report  # the nearest net to both budgets
