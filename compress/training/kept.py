"""Kept measurements: files beside a run's record that say what took long to find out, read again where they can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from compress.documents import read_json
from compress.errors import UsageError
from compress.training.progress import console

T = TypeVar("T")


def read_kept(path: Path, kind: type[T], mend: str) -> tuple[dict[str, Any], T] | None:
    """A JSON object as it stands in the file, and as `kind`; None where there is no file.

    None, too, where it does not fit, which is said with the field and what mends it.
    """
    try:
        return read_json(path, kind)
    except FileNotFoundError:
        return None
    except UsageError as error:
        console.print(f"skipped: {path} is corrupt ({error}); {mend}")
        return None
