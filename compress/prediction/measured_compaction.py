"""Measured compaction: from which batch size on it pays to take images out that have left, as a run's file has it."""

from __future__ import annotations

from compress.documents import read_kept
from compress.inference import Policy
from compress.runs import EARLY_EXIT, Run
from compress.schema import Struct

MEND = "compress exits measures again"


class MeasuredPolicy(Struct, frozen=True, kw_only=True):
    """As much of a policy in `early_exit.json` as says when to compact, and where that was measured."""

    policy: Policy
    engine: str
    precision: str
    device: str = "cpu"
    compact_from: bool | int = True


class PoliciesFile(Struct, frozen=True, kw_only=True):
    """What is read here of `early_exit.json`."""

    policies: list[MeasuredPolicy]


def measured_compaction(run: Run, policy: Policy, *, engine: str, precision: str, device: str) -> bool | int:
    """`EarlyExit`'s argument `compact` as `compress exits` measured it for a run's policy; True where it did not."""
    kept = read_kept(run.path / EARLY_EXIT, PoliciesFile, MEND)
    found = [
        each.compact_from
        for each in (kept[1].policies if kept else [])
        if each.policy == policy and (each.engine, each.precision, each.device) == (engine, precision, device)
    ]
    return found[-1] if found else True  # the newest is last
