"""The source of predictions: what a name stands for, a run, one of its exits, or a bundle; found without torch."""

from __future__ import annotations

import os
from pathlib import Path

from compress.ensemble_exit import ExitName
from compress.errors import UsageError
from compress.runs import Run, run_and_exit

MANIFEST = "bundle.json"


def find_source(source: str | os.PathLike[str] | Run, runs: Path) -> Path | tuple[Run, ExitName | None]:
    """Return the directory of a bundle, or a finished run and the exit that RUN:EXIT names, if any.

    An exit is a number, from 1 on, or ``ensemble``.

    Raises:
        UsageError: there is neither.
    """
    if isinstance(source, Run):
        return source, None
    if os.path.isfile(os.path.join(source, MANIFEST)):
        return Path(source)
    if os.path.isdir(source) and not os.path.exists(os.path.join(source, "run.json")):
        raise UsageError(f"{source} is a folder, but neither a run nor a bundle: it has no run.json and no {MANIFEST}")
    return run_and_exit(source, runs)
