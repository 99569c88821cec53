"""Machine load: what records tell of other work that a machine did while it trained, which makes seconds longer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from compress.runs import Run

UNEVEN = 1.2  # times as long as another epoch of equal work: longer than a machine of its own takes
OTHERS = 1.0  # threads that ran or waited beside the run's own, on average


def load_note(runs: Sequence[Run], epochs: pd.DataFrame) -> str:
    """What the seconds of the runs can be believed to be, in words.

    Args:
        epochs: of these runs, by `read_epochs`.
    """
    own = [epochs[epochs["run"] == run.id] if len(epochs) else epochs for run in runs]
    spreads = [spread(run, rows) for run, rows in zip(runs, own, strict=True)]
    extra = [others(run, rows) for run, rows in zip(runs, own, strict=True)]
    uneven = [each for each in spreads if each is not None and each >= UNEVEN]
    beside = [each for each in extra if each is not None and each >= OTHERS]
    busy = [(one or 0) >= UNEVEN or (other or 0) >= OTHERS for one, other in zip(spreads, extra, strict=True)]
    unknown = sum(other is None and not shown for other, shown in zip(extra, busy, strict=True))
    said = []
    if any(busy):
        signs = [f"epochs of one run took up to {max(uneven):.1f} times as long as one another"] if uneven else []
        signs += [f"up to {max(beside):.1f} threads ran or waited beside the run's own"] if beside else []
        said.append(
            f"**Seconds are those of a busy machine** in {sum(busy)} of {len(runs)} runs, at least: "
            f"{', and '.join(signs)}. Compare training MACs, not seconds."
        )
    if unknown:
        of = f"{unknown} {'more ' if any(busy) else ''}run{'s' * (unknown > 1)}"
        said.append(f"Whether the machine was busy is not known for {of}, whose records hold no load.")
    return " ".join(said) or "No record shows a busy machine."


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
    place = run.record.environment
    own = place["world_size"] * (1 if place["gpu"] else place["threads"])  # a GPU is fed by one thread
    loads = _known(epochs, "load")
    return fmean(loads) - own if loads else None


def _known(epochs: pd.DataFrame, column: str) -> list[float]:
    return [float(value) for value in epochs[column].dropna()] if len(epochs) else []
