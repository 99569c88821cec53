"""The page: a report's Markdown as one self-contained HTML file, with tables to sort and figures to hover over.

Tables are made sortable by DataTables, which the package itables brings along. It is in the file, as
figures are: nothing is fetched when it is opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt
from markdown_it.token import Token

from compress.runs import write_atomically

PAGE = "report.html"
MISSING = ("", "-", "not measured")
FACTORS = {None: 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
FIGURE = re.compile(r"!\[.*\]\(([\w-]+)\.svg\)")
NUMBER = re.compile(r"[<>~]?\s*([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)(?:\s?([kMGT])(?![a-z]))?")


def write_page(markdown: str, out: Path) -> Path:
    """Write `report.html` into `out`; returns its path.

    Args:
        markdown: the report's. HTML in it is shown as text.
        out: directory of the report and its .svg files, which replace ``![...](STEM.svg)``.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    titles = [inline.content for heading, inline in pairwise(tokens) if heading.tag == "h1"]
    _place_figures(tokens, out)
    _make_sortable(tokens)
    page = Template(files("benchmarks").joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(next(iter(titles), "Report")),
        body=parser.renderer.render(tokens, parser.options, {}),
        tables=files("itables").joinpath("html", "dt_bundle.js").read_text(encoding="utf-8"),
    )
    write_atomically(out / PAGE, page.encode(errors="replace"))
    return out / PAGE


def sort_key(cell: str) -> float | None:
    """The number that a cell begins with, of ``96.1M ± 2`` 96,100,000, of ``(8%)`` 8; None where it has none there."""
    found = NUMBER.match(cell.lstrip("*( ").replace("\N{MINUS SIGN}", "-"))
    return float(found[1].replace(",", "")) * FACTORS[found[2]] if found else None


def _place_figures(tokens: Sequence[Token], out: Path) -> None:
    """Replace paragraphs that are one figure by its file's content."""
    for paragraph, inline, end in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if stem := _stem(inline):
            caption = escape(inline.children[0].content if inline.children else "")
            drawing = (out / f"{stem}.svg").read_text(encoding="utf-8")
            paragraph.tag = end.tag = "figure"
            inline.type, inline.content = "html_block", f"{drawing}<figcaption>{caption}</figcaption>"


def _stem(inline: Token) -> str:
    """Of text that is one image, its file's name without `.svg`; empty of other text and images from elsewhere."""
    if [child.type for child in inline.children or ()] != ["image"]:
        return ""
    return found[1] if (found := FIGURE.fullmatch(inline.content)) else ""


def _make_sortable(tokens: Sequence[Token]) -> None:
    """Mark every table's columns of numbers, with what their cells are sorted by."""
    for token, inline in pairwise(tokens):
        if token.type == "table_open":
            rows: list[list[tuple[Token, str]]] = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("th_open", "td_open"):
            rows[-1].append((token, inline.content))
        elif token.type == "table_close":
            for head, *cells in zip(*rows, strict=True):
                _mark_column(head[0], cells)


def _mark_column(head: Token, cells: Sequence[tuple[Token, str]]) -> None:
    """Of numbers, and what is missing: a class, and in every cell the number; without one, words, to the left."""
    keys = [sort_key(text) for _, text in cells]
    known = [key is not None for key, (_, text) in zip(keys, cells, strict=True) if text not in MISSING]
    for token in (head, *(token for token, _ in cells)):
        token.attrs = {"class": "number"} if known and all(known) else {}
    if known and all(known):
        for (token, _), key in zip(cells, keys, strict=True):
            token.attrSet("data-order", "" if key is None else repr(key))
