"""Budgets: what a smaller network may cost, in shares, MACs, parameters or measured latency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from baselines.removal_order import Size
from compress.errors import UsageError, checked

TOLERANCE = 0.01
NEAREST = 0.25  # greatest miss that `--nearest` accepts, as a share of the budget

# Quartiles of a latency's ratio to the reference's, measured interleaved with it.
Quartiles = tuple[float, float, float]


class AlreadyMetError(UsageError):
    """The network costs no more than the budget, so nothing would be pruned."""


@checked
@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a pruned network may cost; exactly one field is given.

    Attributes:
        ratio: share of the prunable channels to remove.
        speedup: MACs before / after.
        macs, params: MACs or parameters of the last exit to keep.
        latency_ratio: measured latency after / before.

    Raises:
        UsageError: none or several are given, or one is out of range.
    """

    ratio: float | None = None
    speedup: float | None = None
    macs: float | None = None
    params: float | None = None
    latency_ratio: float | None = None

    def __post_init__(self) -> None:
        given = [_option(name) for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            options = ", ".join(_option(name) for name in vars(self))
            raise UsageError(f"give one of {options}, not {' and '.join(given) or 'none'}")
        name, value = self.option
        if name in ("ratio", "latency_ratio") and not 0 < value < 1:
            what = "the share of channels removed" if name == "ratio" else "latency after / before"
            raise UsageError(f"{given[0]} {value:g}: {what} lies between 0 and 1, as in 0.5")
        if name == "speedup" and not 1 < value < math.inf:
            raise UsageError(f"--speedup {value:g}: MACs before / after must be above 1, as in 2.6")
        if name in ("macs", "params") and not 0 < value < math.inf:
            raise UsageError(f"{given[0]} {value:g}: must be above 0, as in 97e6")

    @property
    def option(self) -> tuple[str, float]:
        """The name and the value of the field that is given."""
        return next((name, value) for name, value in vars(self).items() if value is not None)

    def __str__(self) -> str:
        """The budget as in ``ratio 0.5`` or ``macs 97000000``, exact, since commands repeat it."""
        name, value = self.option
        return f"{name.replace('_', '-')} {int(value) if value == int(value) else value!r}"


class Limit(NamedTuple):
    """A budget in MACs or parameters: the limited field of `Size`, and its greatest value."""

    field: str
    value: float

    @classmethod
    def of(cls, budget: Budget, before: Size) -> Limit:
        """Work out the limit for a network that has this size before pruning."""
        if budget.speedup:
            return cls("macs", before.macs / budget.speedup)
        name, value = budget.option
        return cls(name, value)

    def measure(self, size: Size) -> int:
        """The limited field of a size."""
        value: int = getattr(size, self.field)
        return value

    def off(self, size: Size) -> float:
        """The relative distance of a size to the limit, positive where it is larger."""
        return self.measure(size) / self.value - 1

    def in_words(self, value: float, before: Size) -> str:
        """A value of the limited field, with its ratio to the network before pruning."""
        ratio = self.measure(before) / value
        if self.field == "macs":
            return f"{value:,.0f} MACs (a speed-up of {ratio:.3f})"
        return f"{value:,.0f} parameters ({ratio:.3f} times fewer)"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
