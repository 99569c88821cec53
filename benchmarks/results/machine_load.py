"""Machine load: what records tell of other work that a machine did while it trained, which makes seconds longer."""

from __future__ import annotations

from statistics import fmean

import pandas as pd

from compress.runs import Run

UNEVEN = 1.2  # times as long as another epoch of equal work: longer than a machine of its own takes
OTHERS = 1.0  # threads that ran or waited beside the run's own, on average


def spread(run: Run, epochs: pd.DataFrame) -> float | None:
    """How many times as long as the fastest epoch of a run the slowest took; None where that tells nothing.

    The first epoch, which warms up, does not count. Where a network shrinks while it trains, epochs are not alike.
    """
    seconds = _known(epochs, "seconds")[1:]
    if len(seconds) < 2 or run.record.config["request"].get("gradual") or not min(seconds) > 0:
        return None
    return max(seconds) / min(seconds)


def others(run: Run, epochs: pd.DataFrame) -> float | None:
    """How many threads ran or waited beside the run's own, on average over its epochs; None where none were counted."""
    place, loads = run.record.environment, _known(epochs, "load")
    if not loads or place["gpu"] or run.record.data["copy"].endswith("streamed"):
        return None  # a compiler's or readers' processes of the run itself are among them
    return fmean(loads) - float(place["world_size"] * place["threads"])


def _known(epochs: pd.DataFrame, column: str) -> list[float]:
    return [float(value) for value in epochs[column].dropna()] if len(epochs) else []
