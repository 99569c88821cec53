"""Where figures go: the directory of a report, and each figure as SVG and PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compress.errors import UsageError
from compress.runs import write_atomically

SAVING: dict[Any, Any] = {
    "svg.hashsalt": "multiway-compress",  # and no date: the same bytes for the same numbers
    "svg.fonttype": "none",  # text stays text: smaller files that can be searched and read out
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # Verdana has nearly the same widths
}


def make_directory(out: Path) -> None:
    """Create the directory of a report.

    Raises:
        UsageError: it cannot be.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another directory with --out") from error


def save(figure: Figure, path: Path) -> None:
    """Write the figure as `path` with the suffixes .svg and .png."""
    with matplotlib.rc_context(SAVING):
        FigureCanvasAgg(figure)
        if figure.get_layout_engine() is not None:  # laid out once for both: that takes longest
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], **options)
            write_atomically(path.with_suffix(suffix), buffer.getvalue())
