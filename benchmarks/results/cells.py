"""Cells: numbers as a table shows them, with what a sortable table sorts them by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from compress.ensemble_exit import ENSEMBLE

MISSING = "-"


class Number(str):
    """The text of a cell that shows a number; `value` is what the cell is sorted by."""

    value: float

    def __new__(cls, text: str, value: float) -> Number:
        """A cell with this text."""
        cell = super().__new__(cls, text)
        cell.value = float(value)
        return cell


def exit_name(row: Mapping[Any, Any] | pd.Series) -> str:
    """A network's name and exit, as in ``MwResNet-44-5 (exit 3)``; the name alone if the network has one exit."""
    if row["exit"] == ENSEMBLE:
        return f"{row['network']} (ensemble)"
    return str(row["network"]) + (f" (exit {int(row['exit'])})" if row["exits"] > 1 else "")


def exit_cell(row: Mapping[Any, Any] | pd.Series) -> str:
    """An exit and how many there are, as in ``3 of 5``; or ``ensemble``, which is sorted behind them."""
    if row["exit"] == ENSEMBLE:
        return Number(ENSEMBLE, row["exits"] + 1)
    return Number(f"{row['exit']:.0f} of {row['exits']:.0f}", row["exit"])


def mean_cell(row: Mapping[Any, Any] | pd.Series) -> Number:
    """Test accuracy in percent, with its interval if there is one."""
    mean, half_width = 100 * row["test_accuracy"], 100 * row["test_accuracy_half_width"]
    return Number(f"{mean:.2f}" if pd.isna(half_width) else f"{mean:.2f} ± {half_width:.2f}", mean)


def accuracy_cell(row: Mapping[Any, Any] | pd.Series, *, bold: bool = False) -> Number:
    """Test accuracy in percent, with its interval if there is one and the number of seeds."""
    mean = mean_cell(row)
    text = f"{mean} (n = {int(row['n'])})"
    return Number(f"**{text}**" if bold else text, mean.value)


def millions(value: float | None) -> str:
    """A count in millions, as in ``96.1M``."""
    return number(value, ".0f" if value is not None and value >= 1e8 else ".3g", "M", scale=1e-6)


def megabytes(value: float | None) -> str:
    """A number of bytes, as in ``3.42 MB``."""
    return number(value, ".0f" if value is not None and value >= 1e9 else ".3g", " MB", scale=1e-6)


def number(value: float | None, form: str, unit: str = "", scale: float = 1) -> str:
    """The scaled value in a format and with its unit; `MISSING` for None and NaN."""
    return MISSING if value is None or pd.isna(value) else Number(f"{scale * value:{form}}{unit}", value)


trillions = partial(number, form=".2f", unit="T", scale=1e-12)  # a count, as in 7.75T
percent = partial(number, form=".2f", scale=100)  # a fraction, as in 87.33
ratio = partial(number, form=".2f", unit="x")  # as in 2.29x
