"""Energy: joules by the machine's own counters, where it has any that can be read; nothing is ever estimated.

A CPU's are those of Intel's RAPL (AMD has them too), as Linux shows them under /sys/class/powercap: whole packages,
whatever runs on them, without the memory modules. A GPU's is NVML's of the whole board (`pip install nvidia-ml-py`).
So a figure is of the machine while something ran, not of that alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")  # https://docs.kernel.org/power/powercap/powercap.html
MICRO, MILLI = 1e-6, 1e-3


@dataclass(frozen=True, kw_only=True)
class Counter:
    """One of the machine's counters.

    Attributes:
        name: as reports write it.
        read: what it shows now.
        joules: of one of its units.
        span: after so many units it starts again at 0.
    """

    name: str
    read: Callable[[], int]
    joules: float
    span: int


class Meter:
    """Adds up what counters show from the moment it is made.

    It must be read before any counter has gone round once: RAPL's do in minutes to an hour.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self.counters = tuple(counters)
        self._last = [counter.read() for counter in self.counters]
        self._units = [0 for _ in self.counters]

    @property
    def sources(self) -> list[str]:
        """What is measured, for the record."""
        return [counter.name for counter in self.counters]

    def joules(self) -> float:
        """Joules since the meter was made; never less than the last time."""
        for number, counter in enumerate(self.counters):
            now = counter.read()
            moved = now - self._last[number]
            self._units[number] += moved if moved >= 0 else moved + counter.span
            self._last[number] = now
        return sum(units * one.joules for units, one in zip(self._units, self.counters, strict=True))


def meter(device: torch.device, powercap: Path = POWERCAP) -> Meter | None:
    """The meter of a device; None where the machine has none, or does not let this user read it."""
    counters = _nvml(device) if device.type == "cuda" else _rapl(powercap) if device.type == "cpu" else []
    return Meter(counters) if counters else None


def _rapl(powercap: Path) -> list[Counter]:
    """A counter a CPU package; none where one of them cannot be read, since the rest would pass for the whole."""
    try:
        # A zone within a zone (intel-rapl:0:0) is part of it, `psys` holds all, and intel-rapl-mmio repeats one.
        zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        found = []
        for zone in zones:
            name = (zone / "name").read_text().strip()
            if name.startswith("package"):
                span = int((zone / "max_energy_range_uj").read_text())
                found.append(Counter(name=f"RAPL {name}", read=_reader(zone), joules=MICRO, span=span))
        for counter in found:
            counter.read()
    except (OSError, ValueError):
        return []
    return found


def _reader(zone: Path) -> Callable[[], int]:
    return lambda: int((zone / "energy_uj").read_text())


def _nvml(device: torch.device) -> list[Counter]:
    """The board's counter; none without NVIDIA's Python package (nvidia-ml-py) or before the Volta generation."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return []
    properties: Any = torch.cuda.get_device_properties(device)  # NVML numbers boards in its own way: go by the UUID
    try:
        nvml.nvmlInit()
        board = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(board)
    except nvml.NVMLError:
        return []
    return [
        Counter(
            name=f"NVML {properties.name}",
            read=lambda: int(nvml.nvmlDeviceGetTotalEnergyConsumption(board)),
            joules=MILLI,
            span=1 << 64,  # millijoules
        )
    ]
