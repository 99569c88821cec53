"""Documents: JSON and TOML files, read within a size limit and checked against the types of their fields.

Files may be truncated, edited by hand, or come from somebody else, so every document is checked here before use. Errors
name the field, as in ``results.exits[1].macs``.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from compress.console import console
from compress.errors import UsageError
from compress.schema import LONGEST as LONGEST
from compress.schema import at
from compress.schema import fitted as fitted

T = TypeVar("T")
LARGEST = 64 * 2**20  # bytes; the largest of our records are some 100 KB
DEEPEST = 200  # levels of nesting; a pruning in steps has one per step


class UnreadableError(UsageError):
    """A file that the system does not let be read, or not now; what it holds may be whole."""


def read_file(path: Path, largest: int = LARGEST) -> bytes:
    """Read the content of a file.

    Raises:
        FileNotFoundError: there is none.
        UnreadableError: the system does not let it be read, or not now.
        UsageError: it is no ordinary file, or larger than `largest` bytes.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError("not a file")
        if status.st_size > largest:
            raise UsageError(f"{status.st_size:,} bytes, where {largest:,} are the most")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error


def read_json(path: Path, kind: type[T]) -> tuple[dict[str, Any], T]:
    """Read a JSON object; returns it as plain data, unknown fields included, and as `kind`.

    Raises:
        FileNotFoundError: there is none.
        UsageError: it cannot be read, is no JSON, or does not fit.
    """
    document = parse_json(read_file(path))
    return document, fitted(document, kind)


def read_kept(path: Path, kind: type[T], mend: str) -> tuple[dict[str, Any], T] | None:
    """`read_json` of a file that holds measurements; None where there is no file, or none that fits.

    A file that does not fit is reported on the console, with the field and `mend`, which says what mends it.
    """
    try:
        return read_json(path, kind)
    except FileNotFoundError:
        return None
    except UsageError as error:
        console.print(f"skipped: {path} is corrupt ({error}); {mend}")
        return None


def refuse_read_only(directory: Path) -> None:
    """Refuse a directory that cannot take files, before anything is measured that would be written to it.

    Raises:
        UsageError: it cannot be written.
    """
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {directory}, where what is measured is kept: copy it to where you may write")


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8.

    Raises:
        UsageError: it is not JSON, a key is repeated, a number is not finite or too large, or it is nested too deeply.
    """
    try:
        document = json.loads(content.decode(), object_pairs_hook=_distinct)
    except UsageError:
        raise
    except RecursionError as error:
        raise UsageError(f"nested deeper than {DEEPEST} levels") from error
    except ValueError as error:
        raise UsageError(f"not JSON in UTF-8: {error}") from error
    _check_values(document, "", DEEPEST)
    return document


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse TOML in UTF-8.

    Raises:
        UsageError: as `parse_json`.
    """
    try:
        document = tomllib.loads(content.decode())
    except RecursionError as error:
        raise UsageError(f"nested deeper than {DEEPEST} levels") from error
    except UnicodeDecodeError as error:
        raise UsageError("not a text file in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(str(error)) from error
    _check_values(document, "", DEEPEST)
    return document


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        raise UsageError(f"{next(key for key in keys if keys.count(key) > 1)[:LONGEST]!r} is there twice")
    return document


def _check_values(value: object, field: str, levels: int) -> None:
    """Refuse NaN, infinity, integers of more than 64 bits and deep nesting."""
    if levels < 0:
        raise UsageError(f"nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_values(item, f"{field}.{key}", levels - 1)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _check_values(item, f"{field}[{position}]", levels - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(at(field, f"{value} is no number"))
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(at(field, "a whole number of more than 64 bits"))
