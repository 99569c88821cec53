"""`compress report`: the comparison of all finished runs, written to a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from compress.cli.options import OUTPUT, PLACE, Flag, Output
from compress.cli.runs_option import runs_places
from compress.errors import UsageError

# One directory or URL, whole: cyclopts would split a list of paths at ":".
RUNS_DIRS = Parameter(env_var="COMPRESS_RUNS", env_var_split=lambda _, text, **__: [text], converter=runs_places)


def report(
    runs_dir: Annotated[tuple[Path, ...], RUNS_DIRS] = (PLACE.runs,),
    *,
    out: Path = Path("report"),
    png: Flag = False,
    output: Output = OUTPUT,
) -> None:
    """Write the report that compares all finished runs: Markdown, an HTML page, CSV, figures and records.

    Args:
        runs_dir: Directory or URL of the run directories, or directory of a report, which is then written again from
            its records, or an archive of records, as python -m benchmarks.gpu writes it. Several are put together.
        out: Directory to write into.
        png: Write each figure as PNG, too.
    """
    for source in runs_dir:
        if not source.exists():
            raise UsageError(f"{source} is not a directory of runs; train some first: compress study quickstart")

    from benchmarks import gathered, write_report
    from compress.cli.printing import print_json
    from compress.console import console

    with gathered(runs_dir) as (comparison, skipped):
        for reason in skipped:
            console.print(f"skipped: {reason}")
        path = write_report(comparison, out, png=png)
    if output.json:
        return print_json({"report": str(path), "runs": [run.id for run in comparison.runs], "skipped": skipped})
    console.print(f"{len(comparison.runs)} runs reported")
    print(path)
