"""Escaping: names from records and studies are data wherever they are shown, and no markup, formula or path."""

from __future__ import annotations

import re

NAME, SENTENCE = 120, 2000  # characters that are shown of one
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]+")
MARKUP = re.compile(r"([\\`*\[\]<>|&#~])")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def one_line(text: str, longest: int = NAME) -> str:
    """A name as it can be shown: one line, not endless, without characters that are not seen or no text at all."""
    text = " ".join(UNSEEN.sub(" ", text.encode(errors="replace").decode()).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def inline(text: str, longest: int = NAME) -> str:
    """A name in Markdown: in a sentence, a heading or the cell of a table."""
    return MARKUP.sub(r"\\\1", one_line(text, longest))


def code(text: str) -> str:
    """Text as a code span in Markdown, whole; what is in backticks itself in more of them."""
    text = " ".join(UNSEEN.sub(" ", text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def cell(text: str) -> str:
    """Text in a CSV file, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
