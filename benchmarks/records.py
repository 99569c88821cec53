"""Records: what a report is made from, kept beside it, so that it can be made again where the runs no longer are.

`comparison.json` says what the report is on, `runs/<id>/` holds of every run its record, what was measured and which
test images it got right: no weights, and no place on the machine that it was trained on.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.correctness import CORRECTNESS, write_right
from benchmarks.figures import make_directory
from benchmarks.measurements import BENCH
from benchmarks.memory import COSTS
from benchmarks.probe import PROBE
from benchmarks.tuning import Factors, Trial
from compress.errors import UsageError, checked
from compress.runs import METRICS, RECORD, Record, Run, find_run, read_json, read_run, write_atomically, write_json

COMPARISON = "comparison.json"
RECORDS = "runs"
MEASURED = (METRICS, BENCH, COSTS, PROBE)  # copied as they are
KEPT = {RECORD, CORRECTNESS, *MEASURED}
SCHEMA_VERSION = 1
DECIDING = ("matplotlib", "numpy", "pandas", "scipy", "statsmodels")  # another version may write other bytes


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a report is on: all that `write_report` takes, which says what each is, but where to write it."""

    runs: Sequence[Run]
    title: str = "Comparison"
    about: str = ""
    reference: str | None = None
    primary: tuple[str, str] | None = None
    trials: Sequence[Trial] = ()
    failures: Sequence[str] = ()


def write_records(comparison: Comparison, out: Path) -> Comparison:
    """Write `comparison.json` and `runs/` into a report's directory; returns the comparison of what was written there.

    Records of runs that are no longer in the report are removed. Runs that lie there themselves stay as they are.

    Raises:
        UsageError: it cannot be written, or would replace something that is no record.
    """
    before = _ids(read_json(out / COMPARISON) or {})
    kept = dataclasses.replace(
        comparison,
        runs=[_write_record(run, out / RECORDS / run.id) for run in comparison.runs],
        failures=[re.sub(r"(?<![\w.~/-])/(?:[^\s/]+/)*(?=[^\s/])", "", line) for line in comparison.failures],
    )
    ids = [run.id for run in kept.runs]
    for id in set(before) - set(ids):
        if _is_record(out / RECORDS / id):
            shutil.rmtree(out / RECORDS / id)
    told = {field.name: getattr(kept, field.name) for field in dataclasses.fields(kept)}
    told |= {"runs": ids, "trials": [dataclasses.asdict(trial) for trial in kept.trials]}
    versions = {name: version(name) for name in DECIDING}
    write_json(out / COMPARISON, {"schema_version": SCHEMA_VERSION} | told | {"versions": versions})
    return kept


@checked
def read_comparison(directory: Path) -> Comparison:
    """The comparison that a report's directory holds.

    Raises:
        UsageError: `comparison.json` is corrupt, or a run that it names is not there.
    """
    try:
        document = json.loads((directory / COMPARISON).read_text())
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema {document['schema_version']}, this version reads {SCHEMA_VERSION}")
        comparison, ids = _comparison(document), _ids(document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        mend = f"write it again from the runs: compress report RUNS_DIR --out {directory}"
        raise UsageError(f"report {directory}: {COMPARISON} is corrupt ({error}); {mend}") from error
    records = directory / RECORDS
    missing = [id for id in ids if not (records / id / RECORD).is_file()]
    if missing:
        raise UsageError(
            f"report {directory}: {COMPARISON} names {len(missing)} run(s) that {records} has no record of, "
            f"{missing[0]} the first"
        )
    return dataclasses.replace(comparison, runs=[find_run(records / id, records) for id in ids])


def _comparison(document: dict[str, Any]) -> Comparison:
    """The comparison, without its runs."""
    title, about, reference, primary = (document[key] for key in ("title", "about", "reference", "primary"))
    failures, trials = document["failures"], document["trials"]
    texts = [title, about, *(failures if isinstance(failures, list) else [None]), *(primary or ())]
    if not all(isinstance(text, str) for text in texts) or not isinstance(reference, str | None):
        raise TypeError("title, about, reference, primary and failures are texts")
    if len(document["runs"]) != len(_ids(document)):
        raise TypeError("runs are a list of ids")
    return Comparison(
        runs=(),
        title=title,
        about=about,
        reference=reference,
        primary=(primary[0], primary[1]) if primary else None,
        trials=[Trial(**trial | {"factors": Factors(**trial["factors"])}) for trial in trials],
        failures=failures,
    )


def _ids(document: dict[str, Any]) -> list[str]:
    """The runs that `comparison.json` names; those alone that are names of directories."""
    runs = document.get("runs")
    found = [id for id in runs if isinstance(id, str)] if isinstance(runs, list) else []
    return [id for id in found if Path(id).name == id]


def _write_record(run: Run, path: Path) -> Run:
    """The record of a run, written to a directory; the run itself where that is the run's own."""
    if path.resolve() == run.path.resolve():
        return run
    make_directory(path)
    if any(path.iterdir()) and not _is_record(path):
        raise UsageError(f"{path} is no record of a run and would be written over: choose another directory with --out")
    write_right(run, path)  # first, since it tells a record from a run
    Run(path, _portable(run.record)).write_record()
    for name in MEASURED:
        if (run.path / name).is_file():
            write_atomically(path / name, (run.path / name).read_bytes())
        else:
            (path / name).unlink(missing_ok=True)
    return read_run(path)


def _is_record(path: Path) -> bool:
    """Whether a directory holds what records do and, but for what an interruption left, nothing else."""
    if path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return CORRECTNESS in names and not any(name for name in names - KEPT if not name.startswith("."))


def _portable(record: Record) -> Record:
    """The record with no more than the last part of the paths on the machine that wrote it."""
    command = record.command
    for word in shlex.split(command, comments=True):
        command = command.replace(shlex.quote(word), shlex.quote(_without_place(word)))
    data = record.data | {"name": _without_place(record.data["name"])}
    return dataclasses.replace(record, data=data, command=command)


def _without_place(word: str) -> str:
    """As in ``folder:flowers`` for ``folder:/home/me/flowers``."""
    return re.sub(r"(^|:)/(.*/)?(?=.)", r"\1", word)
