"""The clock of a study under way: how long the rest takes, at the pace at which its runs come out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.study.graph import Node
from compress.runs import Run


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time since a study was started.

    Attributes:
        foreseen: seconds of every run that was missing then.
    """

    foreseen: Mapping[Node, float]
    started: float = field(default_factory=time.monotonic)

    def pace(self, outcomes: Mapping[Node, Run | None]) -> float | None:
        """Seconds that one foreseen has taken, whichever processes share the runs; None before any run came out."""
        came = sum(seconds for node, seconds in self.foreseen.items() if outcomes.get(node))
        return (time.monotonic() - self.started) / came if came else None

    def left(self, outcomes: Mapping[Node, Run | None]) -> float:
        """Seconds until all are out, roughly; as foreseen before any is."""
        left = sum(seconds for node, seconds in self.foreseen.items() if node not in outcomes)
        return left * (self.pace(outcomes) or 1.0)
