"""The table of contenders: what each costs, how accurate it is, and why it was left out."""

from __future__ import annotations

import pandas as pd

from benchmarks.selection.contender import Contender
from benchmarks.selection.explanation import amount, percent, within
from benchmarks.selection.selected import Selection


def contender_table(selection: Selection) -> pd.DataFrame:
    """A row a contender: those that could be chosen first, by accuracy, the chosen one marked."""
    rows = [_row(each, chosen=each is selection.chosen) for each in selection.contenders]
    table = pd.DataFrame(rows)
    return table if table["median ms"].any() else table.drop(columns=["median ms", "upper quartile"])


def _row(contender: Contender, *, chosen: bool) -> dict[str, str]:
    """The cells of a contender."""
    seconds, interval = contender.seconds, contender.val_interval
    measured = contender.val_accuracy is not None and interval is not None
    return {
        "": "*" if chosen else "",
        "network": str(contender),
        "validation [95%]": f"{percent(contender.val_accuracy or 0)} {within(interval)}"
        if measured and interval
        else "-",
        "MACs": amount("macs", contender.macs).removesuffix("M MACs") + "M",
        "params": f"{contender.params:,}",
        "bytes": "-" if contender.bytes is None else f"{contender.bytes:,}",
        "median ms": f"{1e3 * seconds[1]:.3g}" if seconds else "",
        "upper quartile": f"{1e3 * seconds[2]:.3g}" if seconds else "",
        "left out": contender.left_out,
    }
