"""Archives of records: what they hold, how several are put together, and which are refused."""

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import Comparison
from benchmarks.report import record_archive
from benchmarks.report.comparison import Screen, write_records
from benchmarks.report.record_archive import _united, gathered, unpack_archive, write_archive
from compress.errors import UsageError
from compress.runs import Run

Archive = Callable[..., Path]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Write an archive of runs, as of a machine with this GPU."""

    def write(name: str, runs: list[Run], gpu: str | None = None, title: str = "Mine") -> Path:
        if gpu:
            runs = [
                Run(run.path, dataclasses.replace(run.record, environment=run.record.environment | {"gpu": gpu}))
                for run in runs
            ]
        records = tmp_path / f"{name}-records"
        records.mkdir()
        write_records(Comparison(runs=runs, title=title, about="Why.", failures=[f"x: not on {gpu}"]), records)
        path = tmp_path / f"{name}.zip"
        write_archive(path, records, {"manifest.json": b"{}", "speed.json": b"{}"})
        return path

    return write


def test_an_archive_holds_the_records_and_nothing_else(archive: Archive, runs: list[Run]) -> None:
    path = archive("a", runs)
    names = zipfile.ZipFile(path).namelist()
    assert {"manifest.json", "speed.json", "comparison.json", f"runs/{runs[0].id}/run.json"} < set(names)
    assert not [name for name in names if "model" in name or "predictions" in name]
    with gathered([path]) as (comparison, skipped):
        assert [run.id for run in comparison.runs] == [run.id for run in runs]
        assert (comparison.title, comparison.about, skipped) == ("Mine", "Why.", [])


def test_several_are_put_together_each_run_once_and_machines_are_named(archive: Archive, runs: list[Run]) -> None:
    first, second = archive("a", runs[:2], "H200"), archive("b", runs[1:], "A100", title="Larger")
    with gathered([first, second]) as (comparison, skipped):
        assert sorted(run.id for run in comparison.runs) == sorted(run.id for run in runs)
        assert comparison.title == "Larger"
        assert comparison.about == ("Why.\n\nThese 4 runs are from 2 kinds of machine: H200 (2 runs), A100 (2 runs).")
        assert comparison.failures == ["a.zip: x: not on H200", "b.zip: x: not on A100"]
        assert len(skipped) == 1
        assert skipped[0].startswith(f"run {runs[1].id}: ")


def test_the_report_of_archives_and_of_the_runs_themselves_is_one(
    archive: Archive, runs: list[Run], tmp_path: Path, compress: Callable[..., tuple[int, str, str]]
) -> None:
    path, directory = archive("a", runs[:2], "H200"), runs[0].path.parent
    status, out, err = compress("report", path, directory, "--out", tmp_path / "report", "--json")
    assert (status, sorted(json.loads(out)["runs"])) == (0, sorted(run.id for run in runs)), err
    text = " ".join((tmp_path / "report" / "report.md").read_text().split())
    assert "These 4 runs are from 2 kinds of machine: H200 (2 runs)" in text


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.json", "/etc/passwd", "runs/../../run.json", "runs/../run.json", "runs/a/b/run.json"),
        *("runs/a/model.safetensors", "evil.py", "runs\\a\\run.json", "runs/../comparison.json"),
    ],
)
def test_nothing_is_written_but_records(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("manifest.json", "{}")
        made.writestr(name, "{}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"evil\.zip is no archive of records: it holds"):
        unpack_archive(path, tmp_path / "deep" / "within")
    assert {*tmp_path.rglob("*")} - {*before} <= {tmp_path / "deep", *(tmp_path / "deep").rglob("*")}
    assert not list((tmp_path / "deep").rglob("*.py"))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 3
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 50]) + content[middle + 50 :]


@pytest.mark.parametrize("how", [cut, flipped, lambda _: b"", lambda _: b"{}"], ids=["cut", "bits", "empty", "JSON"])
def test_a_damaged_archive_is_one_clear_line(
    how: Callable[[bytes], bytes], archive: Archive, runs: list[Run], refused: Callable[..., str], tmp_path: Path
) -> None:
    path = archive("a", runs[:1])
    shutil.rmtree(tmp_path / "a-records")
    path.write_bytes(how(path.read_bytes()))
    line = refused("report", path, "--out", tmp_path / "report")
    assert "a.zip is no archive of records, or damaged" in line


def test_what_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("manifest.json", bytes(10**6))
    monkeypatch.setattr(record_archive, "LARGEST_CONTENT", 10**5)
    with pytest.raises(UsageError, match="larger than any"):
        unpack_archive(path, tmp_path)
    monkeypatch.setattr(record_archive, "LARGEST", 10)
    with pytest.raises(UsageError, match="and 10 are the most"):
        write_archive(tmp_path / "new.zip", tmp_path, {})
    assert not (tmp_path / "new.zip").exists()


def test_an_archive_without_runs_says_so(refused: Callable[..., str], tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", tmp_path / "none", {"manifest.json": b"{}"})
    assert "a.zip: no finished run" in refused("report", tmp_path / "a.zip", "--out", tmp_path / "report")


def test_halves_of_a_screen_are_one_and_others_stay_out() -> None:
    half = Screen(factors=("a", "b"), high=("x", "y"), low=("", ""), levels={"1": (-1, 1), "2": (1, 1)}, runs=4)
    rest = dataclasses.replace(half, levels={"3": (-1, -1), "4": (1, -1), "5": (1, 1)})
    other = dataclasses.replace(half, factors=("a", "c"), levels={"6": (1, 1)})
    united = _united([half, rest, other])
    assert united.levels == half.levels | rest.levels
    assert united.runs == 5
