"""The report: what it says is what the records say, and comparisons that are none are not made."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import Comparison, bench, distinct_runs, main_table, write_report
from compress.errors import UsageError
from compress.runs import Run

COMPARISON = partial(Comparison, title="A title", about="What it is about.")
SMALL = Path(__file__).parents[1] / "comparison"


@pytest.fixture(scope="module")
def report(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench(runs, batch_sizes=(1,), rounds=3)
    return write_report(COMPARISON(runs=runs), tmp_path_factory.mktemp("report"))


def test_the_markdown_holds_both_tables_the_figure_and_every_command(report: Path, runs: list[Run]) -> None:
    text = report.read_text()
    assert text.startswith("# A title\n\n## The best network at each budget\n\n**Preliminary: one seed")
    assert "## What was asked\n\nWhat it is about.\n\n## tiny (bundled)" in text
    table = text[text.index("### Networks") : text.index("### Verdicts")]
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("| ")][2:] == [
        "ResNet-14", "MwResNet-8-2", f"ResNet-14, l1 {runs[3].record.results['achieved']['speedup']:.2f}x",
    ]  # fmt: skip
    accuracy = 100 * runs[0].exits[-1]["test_accuracy"]
    macs = [run.exits[-1]["macs"] for run in runs]
    assert f"| ResNet-14 | {accuracy:.2f} (n = 1) | - | {macs[0] / 1e6:.3g}M | 1.00x |" in table
    assert f"{macs[0] / macs[1]:.2f}x" in table
    assert "(n = 2) |" in table
    assert all(f"`{run.record.command}`" in text for run in runs)
    assert "(accuracy-macs.svg)" in text
    achieved = runs[3].record.results["achieved"]
    assert f"| speedup 2.00 | {achieved['ratio']:.3f} | {achieved['speedup']:.2f}x |" in text
    exits = text[text.index("### Every exit") : text.index("### Exits against")]
    assert sum(line.startswith("| MwResNet-8-2 ") for line in exits.splitlines()) == 2


def test_the_csv_has_a_row_an_exit_of_every_run(report: Path, runs: list[Run]) -> None:
    with (report.parent / "exits.csv").open() as file:
        found = [(row["run"], row["exit"], float(row["test_accuracy"])) for row in csv.DictReader(file)]
    assert found == [(run.id, str(row["exit"]), row["test_accuracy"]) for run in runs for row in run.exits]


def test_files_are_the_same_bytes_again_and_png_is_for_the_asking(
    report: Path, runs: list[Run], tmp_path: Path
) -> None:
    write_report(COMPARISON(runs=runs), tmp_path, png=True)
    for name in ("accuracy-macs.svg", "report.md", "report.html", "exits.csv"):
        assert (tmp_path / name).read_bytes() == (report.parent / name).read_bytes()
    assert not list(report.parent.glob("*.png"))
    with Image.open(tmp_path / "accuracy-macs.png") as image:
        assert image.width > 800


def test_runs_on_other_data_get_a_section_and_a_figure_of_their_own(runs: list[Run], tmp_path: Path) -> None:
    data = runs[0].record.data
    digest = "0" * len(data["digest"])
    record = replace(runs[0].record, config=runs[0].record.config | {"data": digest})
    other = Run(tmp_path / "other", replace(record, data=data | {"name": "other", "digest": digest}))
    split = Run(tmp_path / "split", replace(runs[0].record, data=data | {"split": data["split"] | {"seed": 1}}))
    text = write_report(Comparison(runs=[runs[0], other, split]), tmp_path / "report").read_text()
    assert text.count("| network | test accuracy, % |") == 3
    assert "## other (bundled)" in text
    assert (tmp_path / "report" / "accuracy-macs-2.svg").exists()


def test_what_was_not_measured_is_not_there(runs: list[Run], tmp_path: Path) -> None:
    text = write_report(Comparison(runs=[Run(tmp_path / "run", runs[0].record)]), tmp_path / "report").read_text()
    assert "Latency was not measured" in " ".join(text.split())
    assert "latency, batch" not in text


def test_the_page_has_all_that_the_markdown_has(report: Path) -> None:
    page, text = (report.parent / "report.html").read_text(), report.read_text()
    assert "<title>A title</title>" in page
    assert page.count("<table>") == text.count("\n| ---")
    assert page.count("<figure><svg") == text.count(".svg)") == 5  # latency, MACs, training MACs, anytime, channels


def test_the_reference_can_be_named(runs: list[Run]) -> None:
    table = main_table([runs[0], runs[3]], reference=runs[3].id)
    assert table["speed-up (MACs)"].iloc[1] == "1.00x"
    assert float(table["speed-up (MACs)"].iloc[0].rstrip("x")) == pytest.approx(0.5, abs=0.01)


def test_without_runs_or_a_place_to_write_there_is_no_report(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished runs"):
        write_report(Comparison(runs=[]), tmp_path / "report")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to .*--out"):
        write_report(Comparison(runs=runs), tmp_path / "file" / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_copies_are_no_seeds(compress: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    runs = sorted((SMALL / "runs").glob("*_s0_*"))
    for run in runs:
        for name in (run.name, f"a-copy-of-{run.name[:20]}", f"merged-{run.name}"):
            shutil.copytree(run, tmp_path / "runs" / name)
    damaged = next((tmp_path / "runs").glob("merged-resnet14_*")) / "run.json"
    document = json.loads(damaged.read_text())
    document["results"]["exits"][0]["test_loss"] += 0.5
    damaged.write_text(json.dumps(document))
    status, out, err = compress("report", tmp_path / "runs", "--out", tmp_path / "report", "--json")
    reported = json.loads(out)
    assert (status, sorted(reported["runs"])) == (0, [run.name for run in runs])
    reasons = [line.partition(" (")[2] for line in reported["skipped"]]
    assert sorted(reasons) == [*["a copy)"] * 5, "trained again, with other results)"]
    assert all(f"skipped: {line}" in err for line in reported["skipped"])
    assert "**Preliminary: one seed.**" in (tmp_path / "report" / "report.md").read_text()


def test_other_images_seeds_and_parents_are_told_from_copies(runs: list[Run]) -> None:
    assert distinct_runs(runs) == (runs, [])
    pruned = runs[3].record
    elsewhere = Run(Path("b"), replace(pruned, parent="resnet14_tiny_s7_0"))
    other_split = Run(Path("c"), replace(pruned, data=pruned.data | {"split": pruned.data["split"] | {"test": 9}}))
    found, lines = distinct_runs([elsewhere, *runs, other_split])
    assert found == [*runs, other_split]
    assert lines == [
        f"run b: configuration, images and seed of {runs[3].id}, which alone counts (pruned from resnet14_tiny_s7_0, "
        f"not {pruned.parent}: give each its parent's --seed)"
    ]
    assert main_table([*runs, elsewhere]).equals(main_table(runs))
