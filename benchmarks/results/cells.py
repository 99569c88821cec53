"""Cells: numbers of a table as text: accuracies with their intervals, MACs, sizes, ratios."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import pandas as pd

MISSING = "-"


def exit_name(row: Mapping[Any, Any] | pd.Series) -> str:
    """As in ``MwResNet-44-5 (exit 3)``; a network with one exit has its name alone."""
    return str(row["network"]) + (f" (exit {int(row['exit'])})" if row["exits"] > 1 else "")


def markdown(frame: pd.DataFrame) -> str:
    """A table of text cells as Markdown, the first column left-aligned and the others right-aligned."""
    cells = [list(frame.columns), ["---", *["---:"] * (len(frame.columns) - 1)], *frame.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def mean_cell(row: Mapping[Any, Any] | pd.Series) -> str:
    """Test accuracy in per cent, with its interval if there is one."""
    mean, half_width = 100 * row["test_accuracy"], 100 * row["test_accuracy_half_width"]
    return f"{mean:.2f}" if pd.isna(half_width) else f"{mean:.2f} ± {half_width:.2f}"


def accuracy_cell(row: pd.Series) -> str:
    """As in ``87.33 ± 0.21 (n = 5)``: `mean_cell` with the number of seeds."""
    return f"{mean_cell(row)} (n = {int(row['n'])})"


def accuracy_cells(frame: pd.DataFrame, bold: Container[str] = ()) -> pd.Series:
    """`accuracy_cell` of every row, bold for the series in `bold`."""
    return frame.apply(lambda row: _bold(accuracy_cell(row)) if row["series"] in bold else accuracy_cell(row), axis=1)


def _bold(text: str) -> str:
    return f"**{text}**"


def millions(value: float) -> str:
    """As in ``96.1M``."""
    return number(value / 1e6, ".3g" if value < 1e8 else ".0f", "M")


def megabytes(size: float) -> str:
    """As in ``3.42 MB``."""
    return number(size / 1e6, ".3g", " MB")


def percent(fraction: float) -> str:
    """As in ``87.33``."""
    return number(100 * fraction, ".2f")


def ratios(values: pd.Series) -> pd.Series:
    """As in ``2.29x``."""
    return values.map(lambda value: number(value, ".2f", "x"))


def number(value: float, form: str, unit: str = "") -> str:
    """The number in a format, with its unit, or the mark of a missing value."""
    return MISSING if pd.isna(value) else f"{value:{form}}{unit}"
