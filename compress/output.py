"""What commands print: tables for people, or one JSON document, on stdout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from compress.runs import Run


def show_runs(runs: Sequence[Run], *, as_json: bool) -> None:
    """Print the exits of every run, and where it is; or all their records as JSON."""
    if as_json:
        return print_json({"runs": [run_as_json(run) for run in runs]})
    for run in runs:
        print_table(pd.DataFrame(run.exits).round(4))
        print(f"run: {run.path}")


def run_as_json(run: Run) -> dict[str, Any]:
    return {"id": run.id, "path": str(run.path)} | dataclasses.asdict(run.record)


def print_table(frame: pd.DataFrame) -> None:
    print(frame.to_string(index=False))


def print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document))
