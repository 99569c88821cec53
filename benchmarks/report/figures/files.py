"""Where figures go: the directory of a report, and each figure as SVG and PNG."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compress.errors import UsageError
from compress.runs import write_atomically

SAVING: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller files that can be searched and read out
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # Verdana has nearly the same widths
}
# An id where it is given or referred to: what it is of, and the digest.
ID = re.compile(rb'(?:(?<= id=")|(?<=href="#)|(?<=url\(#))(\w*?)[0-9a-f]{10}(?=["\)])')


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
            content = buffer.getvalue()
            write_atomically(path.with_suffix(suffix), _numbered(content) if suffix == ".svg" else content)


def _numbered(svg: bytes) -> bytes:
    """The SVG with its ids numbered in their order: the same bytes for the same drawing, on every machine.

    Matplotlib's end in a digest of all digits of what they stand for, the last of which differ from CPU to CPU.
    """
    numbers: dict[bytes, bytes] = {}

    def numbered(found: re.Match[bytes]) -> bytes:
        return found[1] + numbers.setdefault(found[0], str(len(numbers) + 1).encode())

    return ID.sub(numbered, svg)
