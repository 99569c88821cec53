"""Selection: what was chosen, of which contenders, under which limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.selection.choice import choose, nearest_to_limits, next_better
from benchmarks.selection.contender import Contender, Interval
from benchmarks.selection.explanation import cautions, reasons
from benchmarks.selection.selection_limits import Limits
from benchmarks.selection.serving import Serving
from compress.accuracy_interval import accuracy_interval
from compress.export.stated_latency import Latency
from compress.hardware import describe


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A choice, made on validation images alone.

    Attributes:
        contenders: all of them, those that could be chosen first, by accuracy.
        max_drop: the most accuracy, a fraction, that is given up for lower costs.
        skipped: a line on every run that had no contender, and why.
        test_accuracy: of the chosen one, read after the choice; None where nothing was chosen.
        noise: of the measured latencies; 0 where none were.
    """

    contenders: Sequence[Contender]
    limits: Limits
    serving: Serving
    max_drop: float
    skipped: Sequence[str] = ()
    test_accuracy: float | None = None
    noise: float = 0.0

    @property
    def feasible(self) -> list[Contender]:
        """Those that could be chosen."""
        return [each for each in self.contenders if not each.left_out]

    @cached_property
    def chosen(self) -> Contender | None:
        """The one that was chosen; None where nothing is within the limits."""
        return choose(self.contenders, self.limits, self.max_drop)

    @property
    def next_better(self) -> Contender | None:
        """The cheapest one that is better than the chosen one."""
        return next_better(self.contenders, self.chosen, self.limits, self.max_drop) if self.chosen else None

    @property
    def nearest(self) -> Contender | None:
        """The one that comes nearest to the limits where nothing is within them."""
        return None if self.chosen else nearest_to_limits(self.contenders, self.limits)

    @property
    def test_interval(self) -> Interval | None:
        """The 95% interval of the test accuracy over the choice of test images."""
        if self.chosen is None or self.test_accuracy is None:
            return None
        return accuracy_interval(self.test_accuracy, self.chosen.run.record.data["split"]["test"])

    @property
    def latencies(self) -> list[Latency]:
        """The latency of the chosen one, for its model card, where it was measured."""
        serving, chosen = self.serving, self.chosen
        if chosen is None or chosen.seconds is None:
            return []
        machine = describe(serving.place)
        return [
            Latency(
                seconds=chosen.seconds[1],
                batch_size=serving.batch_size,
                engine=serving.engine,
                precision=serving.precision,
                threads=serving.threads,
                hardware=str(machine["gpu"] or machine["cpu"]),
                rounds=serving.rounds,
                what=", by compress select" + (" with early exit on validation images" if chosen.early else ""),
            )
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON-ready data."""
        named = {"chosen": self.chosen, "next_better": self.next_better, "nearest": self.nearest}
        document: dict[str, Any] = {name: each.to_json() if each else None for name, each in named.items()}
        if self.chosen is not None:
            tested = {"test_accuracy": self.test_accuracy, "test_interval": self.test_interval}
            document["chosen"] |= tested
        data = self.contenders[0].run.record.data
        return document | {
            "reasons": reasons(self),
            "cautions": cautions(self),
            "contenders": [each.to_json() for each in self.contenders],
            "skipped": list(self.skipped),
            "limits": dataclasses.asdict(self.limits),
            "max_drop": self.max_drop,
            "serving": dataclasses.asdict(self.serving) | {"device": str(self.serving.place)},
            "noise": self.noise,
            "dataset": data["name"],
            "validation_images": data["split"]["validation"],
        }
