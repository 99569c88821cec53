"""The comparison that a report is made from, kept beside it so that the report can be made again without the runs.

`comparison.json` names the runs and says what the report is about. `runs/<id>/` holds each run's record, its
measurements and which test images it got right, but no weights and no paths on the machine that trained it.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.best_trial import Trial
from benchmarks.results.claims import Claim
from benchmarks.results.predictions import write_right
from compress.console import console
from compress.documents import read_file, read_json, read_kept
from compress.errors import UsageError, checked
from compress.machine import installed
from compress.records import Record
from compress.runs import (
    BENCH,
    CORRECTNESS,
    COSTS,
    EARLY_EXIT,
    METRICS,
    PROBE,
    RECORD,
    RECORDS,
    Run,
    find_run,
    read_run,
    write_atomically,
    write_json,
)
from compress.runs import COMPARISON as COMPARISON

MEASURED = (METRICS, BENCH, COSTS, PROBE, EARLY_EXIT)  # files that are copied unchanged
KEPT = {RECORD, CORRECTNESS, *MEASURED}
SCHEMA_VERSION = 1
DECIDING = ("matplotlib", "numpy", "pandas", "scipy")  # another version may write other bytes


@dataclass(frozen=True, kw_only=True)
class Screen:
    """The design of a study that screens factors.

    Attributes:
        factors: their names.
        high, low: what each one's levels are, in words; no low ones in reports from before they were kept.
        levels: -1 or 1 of every factor, by the id of a run.
        runs: the number of runs of the design, made or not.
    """

    factors: tuple[str, ...]
    high: tuple[str, ...]
    levels: dict[str, tuple[int, ...]]
    runs: int
    low: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = [self.high, *([self.low] if self.low else []), *self.levels.values()]
        if any(len(row) != len(self.factors) for row in rows) or {*sum(self.levels.values(), ())} - {-1, 1}:
            raise UsageError(f"screen: not a level, -1 or 1, of {len(self.factors)} factors for every run")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a report says of its runs, as kept in `comparison.json`.

    Attributes:
        about: a paragraph on what was asked, as Markdown.
        reference: id of the run that others are compared with; by default the costliest network by plain BP.
        claims: contrasts that were declared in the study's file, of the id of one run of each network.
        trials: all trials of tuning.
        failures: a line on each run that was asked for and could not be made.
        screen: the levels of a screen's factors; None if the report is not on one.
    """

    title: str = "Comparison"
    about: str = ""
    reference: str | None = None
    claims: Sequence[Claim] = ()
    trials: Sequence[Trial] = ()
    failures: Sequence[str] = ()
    screen: Screen | None = None


@checked
@dataclass(frozen=True, kw_only=True)
class Comparison(Description):
    """What a report compares: finished runs, and what it says of them."""

    runs: Sequence[Run]


@dataclass(frozen=True, kw_only=True)
class Document(Description):
    """The fields of `comparison.json`: a description, with the ids of its runs.

    Attributes:
        primary: the two runs of the one claim of reports from before there could be several.
    """

    schema_version: int
    runs: list[str]
    primary: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise UsageError(f"schema {self.schema_version}, this version reads {SCHEMA_VERSION}")
        for number, id in enumerate(self.runs):
            if Path(id).name != id:
                raise UsageError(f"runs[{number}]: {id!r} is not the name of a directory")
            if id in self.runs[:number]:
                raise UsageError(f"runs[{number}]: {id!r} is listed twice")


def write_records(comparison: Comparison, out: Path) -> Comparison:
    """Write `comparison.json` and `runs/` into a report's directory; returns the comparison of the written records.

    Records of runs that are no longer compared are removed. Runs that lie there themselves stay unchanged.

    Raises:
        UsageError: the directory cannot be written, or something that is not a record would be overwritten.
    """
    before = read_kept(out / COMPARISON, Document, "it counts for nothing")
    kept = dataclasses.replace(
        comparison,
        runs=[_write_record(run, out / RECORDS / run.id) for run in comparison.runs],
        failures=[re.sub(r"(?<![\w.~/-])/(?:[^\s/]+/)*(?=[^\s/])", "", line) for line in comparison.failures],
    )
    ids = [run.id for run in kept.runs]
    for id in set(before[1].runs if before else ()) - set(ids):
        if _is_record(out / RECORDS / id):
            shutil.rmtree(out / RECORDS / id)
    document = {"schema_version": SCHEMA_VERSION, "runs": ids} | dataclasses.asdict(Description(**_description(kept)))
    if kept.screen is None:  # as reports had it before
        del document["screen"]
    write_json(out / COMPARISON, document | {"versions": installed(DECIDING)})
    return kept


@checked
def read_comparison(directory: Path) -> Comparison:
    """Read the comparison from a report's directory.

    Raises:
        UsageError: `comparison.json` is corrupt, or a run that it names is missing.
    """
    try:
        _, document = read_json(directory / COMPARISON, Document)
    except (FileNotFoundError, UsageError) as error:
        mend = f"write it again from the runs: compress report RUNS_DIR --out {directory}"
        raise UsageError(f"report {directory}: {COMPARISON} is corrupt ({error}); {mend}") from error
    ids = document.runs
    records = directory / RECORDS
    missing = [id for id in ids if not (records / id / RECORD).is_file()]
    if missing:
        raise UsageError(
            f"report {directory}: {COMPARISON} names {len(missing)} run(s) that {records} has no record of, "
            f"{missing[0]} the first"
        )
    description = _description(document)
    if document.primary:
        first, second = document.primary
        description["claims"] = [Claim(claim="the primary contrast", of=(first,), against=(second,))]
    return Comparison(runs=[find_run(records / id, records) for id in ids], **description)


def _description(described: Description) -> dict[str, Any]:
    """The fields of a description, by name."""
    return {field.name: getattr(described, field.name) for field in dataclasses.fields(Description)}


def make_directory(out: Path) -> None:
    """Create the directory of a report.

    Raises:
        UsageError: it cannot be created.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another directory with --out") from error


def _write_record(run: Run, path: Path) -> Run:
    """Write the record of a run to a directory and return it; a run that lies there itself is returned unchanged."""
    if path.resolve() == run.path.resolve():
        return run
    make_directory(path)
    if any(path.iterdir()) and not _is_record(path):
        raise UsageError(f"{path} is not a run's record and would be overwritten: choose another directory with --out")
    write_right(run, path)  # first, since it tells a record from a run
    Run(path, _portable(run.record)).write_record()
    for name in MEASURED:
        try:
            write_atomically(path / name, read_file(run.path / name))
        except FileNotFoundError:
            (path / name).unlink(missing_ok=True)
        except UsageError as error:
            console.print(f"skipped: {run.path / name}: {error}")
            (path / name).unlink(missing_ok=True)
    return read_run(path)


def _is_record(path: Path) -> bool:
    """Whether a directory holds the files of a record and, except what an interruption left, no others."""
    if path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return CORRECTNESS in names and not any(name for name in names - KEPT if not name.startswith("."))


def _portable(record: Record) -> Record:
    """The record with paths shortened to their last part."""
    command = record.command
    for word in shlex.split(command, comments=True):
        command = command.replace(shlex.quote(word), shlex.quote(_without_place(word)))
    data = record.data | {"name": _without_place(record.data["name"])}
    return dataclasses.replace(record, data=data, command=command)


def _without_place(word: str) -> str:
    """A word without its directories, as in ``folder:flowers`` for ``folder:/home/me/flowers``."""
    return re.sub(r"(^|:)/(.*/)?(?=.)", r"\1", word)
