"""What a section of the report is: a title above text, lists, tables and figures, as values that renderers show.

Texts, items and cells are inline Markdown. Names that come from records are data: `benchmarks.results.escaping` makes
them safe, and `summarise` has done so for those in its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from matplotlib.figure import Figure as Drawing

from benchmarks.results.cells import MISSING, Number


@dataclass(frozen=True)
class Text:
    """A paragraph; several, and any Markdown, if it has line breaks of its own."""

    words: str


@dataclass(frozen=True)
class Bullets:
    """A list. Items that are commands are not wrapped.

    Attributes:
        shown: number of items that are shown at once; the others are folded. None: all.
    """

    items: Sequence[str]
    wrapped: bool = True
    shown: int | None = None

    @property
    def folded(self) -> Sequence[str]:
        """The items that are not shown at once."""
        return [] if self.shown is None else self.items[self.shown :]


@dataclass(frozen=True)
class Table:
    """A table: its cells by column heading. `Number` cells are sorted by value."""

    columns: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, str]], last: str | None = None) -> Table:
        """A table from rows that may lack cells; the column `last` goes to the end, empty columns are left out."""
        rows = list(rows)
        headings = list(dict.fromkeys(heading for row in rows for heading in row))
        columns = {heading: [row.get(heading, MISSING) for row in rows] for heading in headings}
        shown = sorted(
            (heading for heading in headings if {*columns[heading]} != {MISSING}), key=lambda heading: heading == last
        )
        return cls({heading: columns[heading] for heading in shown})

    @property
    def rows(self) -> list[dict[str, str]]:
        """The cells row by row, by heading."""
        return [dict(zip(self.columns, cells, strict=True)) for cells in zip(*self.columns.values(), strict=True)]

    def numeric(self, heading: str) -> bool:
        """Whether all cells of a column that are not missing are numbers, and there is one."""
        known = [cell for cell in self.columns[heading] if cell != MISSING]
        return bool(known) and all(isinstance(cell, Number) for cell in known)


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption; `name` is its file's, without a suffix."""

    name: str
    caption: str
    drawing: Drawing


Block: TypeAlias = Text | Bullets | Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        level: of the heading; 1 is the report's title.
        method: how the section's numbers were obtained; the report collects these at its end.
    """

    title: str
    blocks: Sequence[Block] = ()
    level: int = 3
    method: str = ""


def figures(name: str, caption: str, drawing: Drawing | None) -> list[Block]:
    """The figure as a list of one block; empty if there is no drawing."""
    return [] if drawing is None else [Figure(name, caption, drawing)]
