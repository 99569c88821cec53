"""The one error a user can cause: a single line that helps, shown without a traceback, exit status 2."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """What the user gave cannot be used; the message names it, what is allowed and the nearest right thing."""


def reason(error: Exception) -> str:
    """What went wrong, in one line; of an error that no user caused, with its kind."""
    text = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
    return one_line(text)


def one_line(text: str) -> str:
    """A text in one line, for a terminal: what cannot be printed, as names of files may have it, is escaped."""
    characters = " ".join(text.split())
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in characters)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """The end of an error message about an unknown word, as in ``did you mean 'quick'? (known: quick, paper)``."""
    allowed = list(allowed)
    close = difflib.get_close_matches(word.lower(), allowed, n=1, cutoff=0.5)
    known = f"known: {', '.join(allowed)}"
    return f"did you mean {close[0]!r}? ({known})" if close else known
