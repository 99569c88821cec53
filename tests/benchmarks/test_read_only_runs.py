"""Runs in directories that cannot be written are refused before anything is measured, not after."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import Wanted, bench, certify_run, probe
from benchmarks.measuring.bench_all import bench_all
from compress.errors import UsageError
from compress.runs import Run


@pytest.mark.parametrize(
    "measure",
    [lambda run: bench([run]), lambda run: probe([run]), lambda run: certify_run(run, Wanted())],
    ids=["bench", "probe", "exits"],
)
def test_nothing_is_measured_that_could_not_be_kept(
    measure: Callable[[Run], Any], reopened: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so that the system's answer is given here."""
    run = reopened[2]
    monkeypatch.setattr(os, "access", lambda path, mode: path != run.path)
    with pytest.raises(UsageError, match=f"^cannot write to {run.path}, where what is measured is kept"):
        measure(run)


def test_others_are_measured_all_the_same(reopened: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != reopened[2].path)
    monkeypatch.setattr("benchmarks.measuring.bench_all.engines_here", lambda device: [])
    made = bench_all(reopened[0].path.parent, rounds=0, device="cpu")
    assert {run.id for run in made.runs} == {run.id for run in reopened[:2]}
    assert any(f"cannot write to {reopened[2].path}" in line for line in made.skipped)
