"""Files in which a run keeps what was measured of its network: measuring again costs time, and latency would differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeptFiles:
    """The files of a run's network, or of that network cut at an exit (1-based)."""

    run: Path
    exit: int | None = None

    def __call__(self, name: str) -> Path:
        """The file of that name, without ending; those of the whole network and of every cut are apart."""
        return self.run / (f"{name}.json" if self.exit is None else f"{name}-exit{self.exit}.json")
