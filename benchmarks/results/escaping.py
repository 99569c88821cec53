"""Escaping: names from records and studies are shown as text, never as markup, formulas or paths."""

from __future__ import annotations

import re

NAME, SENTENCE = 120, 2000  # characters that are shown at most
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]+")
MARKUP = re.compile(r"([\\`*\[\]<>|&#~])")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def short_line(text: str, longest: int = NAME) -> str:
    """A name in one line of limited length, without invisible characters and invalid text."""
    text = " ".join(UNSEEN.sub(" ", text.encode(errors="replace").decode()).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def inline(text: str, longest: int = NAME) -> str:
    """A name as Markdown text for a sentence, a heading or the cell of a table."""
    return MARKUP.sub(r"\\\1", short_line(text, longest))


def code(text: str) -> str:
    """The whole text as a code span in Markdown, with a longer fence where it holds backticks."""
    text = " ".join(UNSEEN.sub(" ", text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def cell(text: str) -> str:
    """Text for a CSV file that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
