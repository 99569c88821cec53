"""Sections as one self-contained HTML page, with tables to sort and figures to hover over.

Tables are made sortable by DataTables, which the package itables brings along. Everything is in the file: nothing is
fetched when it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import assert_never

from markdown_it import MarkdownIt

from benchmarks.report.section import Block, Bullets, Figure, Section, Table, Text
from benchmarks.results.cells import MISSING, Number

MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")  # HTML in texts and names is shown as text


def as_page(title: str, sections: Sequence[Section], svgs: Mapping[str, bytes]) -> str:
    """The sections as an HTML document.

    Args:
        title: of the browser's window, as plain text.
        sections: their figures are replaced by `svgs`, by the figure's name.
    """
    return Template(files("benchmarks.report").joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        body="\n".join(_section(section, svgs) for section in sections),
        tables=files("itables").joinpath("html", "dt_bundle.js").read_text(encoding="utf-8"),
    )


def _section(section: Section, svgs: Mapping[str, bytes]) -> str:
    heading = f"<h{section.level}>{MARKDOWN.renderInline(section.title)}</h{section.level}>"
    return "\n".join([heading, *(_block(block, svgs) for block in section.blocks)])


def _block(block: Block, svgs: Mapping[str, bytes]) -> str:
    match block:
        case Text(words):
            return str(MARKDOWN.render(words))
        case Bullets(items):
            folded = block.folded
            more = f"<details><summary>{len(folded)} more</summary>{_list(folded)}</details>" if folded else ""
            return _list(items[: len(items) - len(folded)]) + more
        case Table():
            return _table(block)
        case Figure(name, caption):
            drawing = svgs[name].decode().partition("<svg")  # without the XML declaration, which HTML has no place for
            return f"<figure><svg{drawing[2]}<figcaption>{escape(caption)}</figcaption></figure>"
        case _:
            assert_never(block)


def _list(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{MARKDOWN.renderInline(item)}</li>' for item in items)}</ul>"


def _table(table: Table) -> str:
    """The table; in columns of numbers every cell bears the number that it is sorted by, and MISSING bears none."""
    numeric = {heading: ' class="number"' if table.numeric(heading) else "" for heading in table.columns}
    head = "".join(f"<th{mark}>{MARKDOWN.renderInline(heading)}</th>" for heading, mark in numeric.items())
    rows = [
        "".join(
            f"<td{numeric[heading]}{_order(cell) if numeric[heading] else ''}>{MARKDOWN.renderInline(cell)}</td>"
            for heading, cell in row.items()
        )
        for row in table.rows
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _order(cell: str) -> str:
    return f' data-order="{cell.value!r}"' if isinstance(cell, Number) and cell != MISSING else ' data-order=""'
