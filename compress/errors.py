"""Errors that a user can cause, and the checks that raise them: one line, no traceback, exit status 2."""

import difflib
import functools
import inspect
import re
import reprlib
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Public = TypeVar("Public", bound=Callable[..., Any])


class UsageError(ValueError):
    """An argument cannot be used; the message names it, what is allowed and the nearest right value."""


def reason(error: Exception) -> str:
    """Return what went wrong in one line, with the type of an error that no user caused."""
    text = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
    return one_line(text)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def one_line(text: str) -> str:
    """Return a text in one line; unprintable characters, such as in names of files, are escaped."""
    characters = " ".join(text.split())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in characters)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return the end of an error about an unknown word, such as ``did you mean 'quick'? (known: quick, paper)``."""
    allowed = list(allowed)
    close = difflib.get_close_matches(word.lower(), allowed, n=1, cutoff=0.5)
    known = f"known: {', '.join(allowed)}"
    return f"did you mean {close[0]!r}? ({known})" if close else known


def checked(public: Public) -> Public:
    """Return the function or class, made to raise `UsageError` for arguments that are not of their declared types.

    Ranges and shapes are for the function itself to check.
    """
    if isinstance(public, type):
        made: Any = public
        made.__init__ = _checked(made.__init__, public.__name__)
        return public
    return _checked(public, public.__name__)


def _checked(function: Public, name: str) -> Public:
    signature = inspect.signature(function)
    hints = functools.cache(lambda: typing.get_type_hints(function))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:  # an unknown or missing argument: Python's message, with the name of the function
            raise TypeError(f"{name}: {error}") from None
        for argument, value in given.items():
            if argument in hints() and signature.parameters[argument].kind is not inspect.Parameter.VAR_KEYWORD:
                _check(f"{name}: {argument}", value, hints()[argument])
        return function(*args, **kwargs)

    return typing.cast(Public, call)


def _check(what: str, value: object, hint: Any) -> None:
    parts = (hint, *typing.get_args(hint))
    # Looking whether a value has all that a protocol asks for could read all images of a data set.
    if any(getattr(part, "_is_protocol", False) for part in parts):
        return
    if any(typing.get_origin(part) is typing.Literal for part in parts) and isinstance(value, str):
        return  # which of a few words is the nearest is for the function to say
    try:
        from typeguard import CollectionCheckStrategy, TypeCheckError, check_type  # here, as training needs no checks
    except ImportError:
        return  # the function itself fails, with a less helpful error
    try:
        if isinstance(value, bool) and int in parts and bool not in parts:
            raise TypeCheckError("a truth value is no number")  # Python's bool is an int, and so it is to typeguard
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        allowed = re.sub(r"[\w.]+\.(?=\w)", "", inspect.formatannotation(hint))
        raise UsageError(f"{what} {one_line(reprlib.repr(value))} is not {allowed}") from error
