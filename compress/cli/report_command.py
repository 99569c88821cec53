"""`compress report`: the comparison of all finished runs, written to a directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from compress.cli.options import OUTPUT, PLACE, Flag, Output, Runs
from compress.errors import UsageError
from compress.runs import finished_runs


def report(
    runs_dir: Runs = PLACE.runs,
    *,
    out: Path = Path("report"),
    png: Flag = False,
    output: Output = OUTPUT,
) -> None:
    """Write the report that compares all finished runs: Markdown, an HTML page, CSV, figures and records.

    Args:
        runs_dir: Directory of the run directories, or its URL; or of a report, which is then written again from its
            records.
        out: Directory to write into.
        png: Write each figure as PNG, too.
    """
    if not runs_dir.is_dir():
        raise UsageError(f"{runs_dir} is not a directory of runs; train some first: compress study quickstart")

    from benchmarks import COMPARISON, Comparison, distinct_runs, read_comparison, write_report
    from compress.cli.printing import print_json
    from compress.console import console

    skipped: list[str] = []
    if (runs_dir / COMPARISON).exists():
        comparison = read_comparison(runs_dir)
    else:
        runs, skipped = finished_runs(runs_dir)
        comparison = Comparison(runs=runs)
    runs, repeated = distinct_runs(comparison.runs)
    comparison, skipped = dataclasses.replace(comparison, runs=runs), [*skipped, *repeated]
    for reason in skipped:
        console.print(f"skipped: {reason}")
    path = write_report(comparison, out, png=png)
    if output.json:
        return print_json({"report": str(path), "runs": [run.id for run in comparison.runs], "skipped": skipped})
    console.print(f"{len(comparison.runs)} runs reported")
    print(path)
