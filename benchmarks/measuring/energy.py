"""Energy: joules from the machine's own counters, where it has readable ones; nothing is estimated.

A CPU's counters are those of RAPL (Intel and AMD), which Linux shows under /sys/class/powercap: whole packages, without
the memory modules. So joules are the machine's while a network ran, not the network's alone. A GPU's counter (NVML)
moves in steps that are longer than what is timed here: it is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")  # https://docs.kernel.org/power/powercap/powercap.html
MICRO = 1e-6


@dataclass(frozen=True, kw_only=True)
class Counter:
    """One of the machine's counters.

    Attributes:
        name: its name in reports.
        read: returns its present value, in units.
        joules: joules a unit.
        span: number of units after which it starts again at 0.
    """

    name: str
    read: Callable[[], int]
    joules: float
    span: int


class Meter:
    """Sum of counters since the meter was made.

    Read it at least once in every span of a counter, which is minutes to an hour for RAPL.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self.counters = tuple(counters)
        self._last = [counter.read() for counter in self.counters]
        self._joules = 0.0

    @property
    def sources(self) -> list[str]:
        """Names of the counters."""
        return [counter.name for counter in self.counters]

    def joules(self) -> float:
        """Joules since the meter was made."""
        for number, counter in enumerate(self.counters):
            now = counter.read()
            self._joules += (now - self._last[number]) % counter.span * counter.joules
            self._last[number] = now
        return self._joules


def meter(device: torch.device, powercap: Path = POWERCAP) -> Meter | None:
    """The meter of a device; None where the machine has no counter, or none that this user may read."""
    counters = _rapl(powercap) if device.type == "cpu" else []
    return Meter(counters) if counters else None


def _rapl(powercap: Path) -> list[Counter]:
    """A counter for every CPU package; no counters where one is unreadable, since the rest would pass for the whole."""
    try:
        # A nested zone (intel-rapl:0:0) is part of another, `psys` includes all, and intel-rapl-mmio repeats a zone.
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        found = []
        for zone in zones:
            name = (zone / "name").read_text().strip()
            if name.startswith("package"):
                read, span = partial(_read_number, zone / "energy_uj"), _read_number(zone / "max_energy_range_uj")
                found.append(Counter(name=f"RAPL {name}", read=read, joules=MICRO, span=span))
        for counter in found:
            counter.read()
    except (OSError, ValueError):
        return []
    return found


def _read_number(path: Path) -> int:
    return int(path.read_text())
