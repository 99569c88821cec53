"""The latency that a model card states: what was measured, and under which conditions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Measured time of a batch.

    Attributes:
        seconds: median over the rounds.
        what: what was measured with which command, where that needs to be said.
    """

    seconds: float
    batch_size: int
    engine: str
    precision: str
    threads: int
    hardware: str
    rounds: int
    what: str = ""

    def __str__(self) -> str:
        return (
            f"Latency at batch {self.batch_size}: {1e3 * self.seconds:.2f} ms (median of {self.rounds} rounds, "
            f"{self.engine} {self.precision}, {self.threads} thread(s), {self.hardware}){self.what}."
        )
