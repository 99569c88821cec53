"""Archives: the records of a report in one file without weights, written where runs were made and read anywhere.

An archive is a zip file of `comparison.json` and `runs/`, as in the directory of a report, and of documents about the
machine and what else was measured there. Nothing else is read from one, and nothing outside of where it is unpacked is
written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report.comparison import COMPARISON, KEPT, Comparison, Screen, read_comparison
from benchmarks.results.repeated_runs import distinct_runs
from compress.errors import UsageError
from compress.runs import RECORDS, Run, finished_runs, write_atomically

MANIFEST, SPEED = "manifest.json", "speed.json"
LARGEST, LARGEST_CONTENT = 16 * 2**20, 256 * 2**20  # bytes, packed and unpacked
_MEMBER = re.compile(rf"({MANIFEST}|{SPEED}|{COMPARISON}|{RECORDS}/[\w.:,+=-]+/({'|'.join(sorted(KEPT))}))")


def write_archive(path: Path, records: Path, documents: Mapping[str, bytes]) -> None:
    """Replace an archive by the records in a report's directory, if there are any, and documents by name.

    Raises:
        UsageError: it cannot be written, or would be larger than 16 MiB.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in documents.items():
            archive.writestr(name, content)
        for file in sorted(file for file in records.rglob("*") if _MEMBER.fullmatch(str(file.relative_to(records)))):
            archive.write(file, file.relative_to(records))
    if buffer.tell() > LARGEST:
        raise UsageError(f"{path}: the records take {buffer.tell():,} bytes, and {LARGEST:,} are the most")
    write_atomically(path, buffer.getvalue())


def unpack_archive(path: Path, folder: Path) -> None:
    """Write what an archive holds into a folder.

    Raises:
        UsageError: it is damaged or too large, or holds something that no archive of records holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LARGEST_CONTENT:
                raise UsageError(f"{path} is no archive of records: unpacked it would be larger than any")
            for member in members:
                if not _MEMBER.fullmatch(member.filename) or ".." in Path(member.filename).parts:
                    raise UsageError(f"{path} is no archive of records: it holds {member.filename!r}")
                file = folder / member.filename
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(member))
    except UsageError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is no archive of records, or damaged ({error}): fetch it again") from error


@contextlib.contextmanager
def gathered(sources: Sequence[Path]) -> Iterator[tuple[Comparison, list[str]]]:
    """The comparison of all runs in archives, directories of runs and reports, and a line on what is left out.

    Of several sources the one with the most runs says what is asked. A run that is in several of them counts once, and
    runs of different machines are named as such. What archives hold is gone when the context ends.

    Raises:
        UsageError: a source is damaged, or there is no run in any of them.
    """
    with TemporaryDirectory() as folder:
        found = [_read(path, Path(folder) / str(number)) for number, path in enumerate(sources)]
        comparison = max((comparison for comparison, _ in found), key=lambda each: len(each.runs))
        runs, repeated = distinct_runs([run for each, _ in found for run in each.runs])
        if not runs and any(path.is_file() for path in sources):
            raise UsageError(f"{', '.join(map(str, sources))}: no finished run; manifest.json says what happened")
        about, failures = comparison.about, [line for each, _ in found for line in each.failures]
        screen = _united([each.screen for each, _ in found if each.screen]) if comparison.screen else None
        if len(sources) > 1:
            failures = [
                f"{path.name}: {line}" for path, (each, _) in zip(sources, found, strict=True) for line in each.failures
            ]
            about = f"{about.rstrip()}\n\n{_origin(runs)}".strip()
        skipped = [line for _, lines in found for line in lines]
        yield (
            dataclasses.replace(
                comparison, runs=runs, about=about, screen=screen, failures=list(dict.fromkeys(failures))
            ),
            [*skipped, *repeated],
        )


def _united(screens: Sequence[Screen]) -> Screen:
    """A screen with the levels of all that screen the same factors; the largest says how many runs were asked for."""
    largest = max(screens, key=lambda each: len(each.levels))
    alike = [
        each for each in screens if (each.factors, each.low, each.high) == (largest.factors, largest.low, largest.high)
    ]
    levels = {id: level for each in alike for id, level in each.levels.items()}
    return dataclasses.replace(largest, levels=levels, runs=max(len(levels), *(each.runs for each in alike)))


def _read(path: Path, folder: Path) -> tuple[Comparison, list[str]]:
    """The comparison of one source, and a line on everything in it that is left out."""
    if path.is_file():
        unpack_archive(path, folder)
        path = folder
    if (path / COMPARISON).exists():
        return read_comparison(path), []
    runs, skipped = finished_runs(path)
    return Comparison(runs=runs), [] if path == folder else skipped


def _origin(runs: Sequence[Run]) -> str:
    """As in ``These 12 runs are from 2 machines: NVIDIA H200 (8 runs), Intel Xeon (4 runs).``."""
    environments = [run.record.environment for run in runs]
    machines = Counter(each["gpu"] or f"{each['cpu']} ({each['cores']} cores)" for each in environments)
    named = ", ".join(f"{name} ({count} run{'s' * (count > 1)})" for name, count in machines.items())
    return f"These {len(runs)} runs are from {len(machines)} kind{'s' * (len(machines) > 1)} of machine: {named}."
