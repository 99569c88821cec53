"""Sections as Markdown, with prose wrapped at 80 columns; tables and commands are not wrapped."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import assert_never

from benchmarks.report.section import Block, Bullets, Figure, Section, Table, Text

WIDTH = 80
MARKER = re.compile(r" (?=(?:[-+*=]+|\d+[.)])(?: |$))")  # what would begin a list or a heading at the start of a line
GLUE = "\0"


def as_markdown(sections: Sequence[Section]) -> str:
    """The sections as one Markdown document."""
    parts = [part for section in sections for part in (f"{'#' * section.level} {section.title}", *_blocks(section))]
    return "\n\n".join(parts) + "\n"


def _blocks(section: Section) -> list[str]:
    return [_block(block) for block in section.blocks]


def _block(block: Block) -> str:
    match block:
        case Text(words):
            return words if "\n" in words else _wrapped(words)
        case Bullets(items, wrapped, shown):
            lines = [_wrapped(f"- {item}", "  ") if wrapped else f"- {item}" for item in items]
            if folded := block.folded:
                begin, end = f"\n<details>\n<summary>{len(folded)} more</summary>\n", "\n</details>"
                lines = [*lines[:shown], begin, *lines[shown:], end]
            return "\n".join(lines)
        case Table(columns):
            rules = ["---:" if block.numeric(heading) else "---" for heading in columns]
            rows = [list(columns), rules, *(list(row.values()) for row in block.rows)]
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)
        case Figure(name, caption):
            return f"![{caption}]({name}.svg)"
        case _:
            assert_never(block)


def _wrapped(text: str, indent: str = "") -> str:
    """The paragraph in lines of 80 columns, none of which begins with what Markdown takes for a list or a heading."""
    begin = 2 if indent else 0  # the mark of a list item is one
    glued = text[:begin] + MARKER.sub(GLUE, text[begin:])
    lines = textwrap.wrap(
        glued, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return "\n".join(lines).replace(GLUE, " ")
