"""The option `--runs`: a directory, or the URL of an object store, whose mirror on this machine stands for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from compress.stores.mirror import check_writable, mirror, refresh


def runs_places(_: object, tokens: Sequence[Token]) -> tuple[Path, ...]:
    """Return the directories that are named; for the URL of an object store, its mirror on this machine.

    The store is read when its runs are looked for, after all other options have been checked.
    """
    return tuple(mirror(token.value, now=False) if "://" in token.value else Path(token.value) for token in tokens)


def runs_place(kind: object, tokens: Sequence[Token]) -> Path:
    """Return the directory that ``--runs`` names, see `runs_places`."""
    return runs_places(kind, tokens)[0]


def writable(runs: Path) -> Path:
    """Return a directory of runs, with what its store has; refuse the mirror of a store that cannot be written."""
    check_writable(runs)
    refresh(runs)
    return runs


Runs = Annotated[Path, Parameter(env_var="COMPRESS_RUNS", converter=runs_place)]
