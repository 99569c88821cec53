"""Division: how flat class folders become train, val and test: by shares and a seed, or as it was recorded."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.documents import fitted, parse_json, read_file
from compress.errors import UsageError
from compress.schema import Struct

DIVISION = "division.json"  # in the directory of a run on flat folders: the part of every file
SHARES = {"train": 0.7, "test": 0.15, "val": 0.15}
FORM = "percent of train, val and test images, such as 70/15/15, of train and test images, such as 80/20, or a run"


class _Recorded(Struct, frozen=True, kw_only=True):
    """The content of `division.json`: what `to_json` returned, and the SHA-256 of the files of every part."""

    seed: int
    shares: dict[str, float]
    files: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class Division:
    """Shares of the parts, every class in proportion.

    Attributes:
        shares: of train, test and, unless it is to be empty, val; they add up to one.
        seed: of the order in which files are taken.
        recorded: the part of files that were divided before, by the SHA-256 of their content; they keep it.
        classes: those of a finished run whose images are wanted again; empty where all classes and files are wanted.
        options: the command-line options that give this division.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    seed: int = 0
    recorded: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @classmethod
    def asked(cls, split: str | None, seed: int | None = None) -> "Division":
        """Return the division that ``--split`` and ``--split-seed`` ask for.

        ``split``: percent of train, val and test images ("70/15/15", the default) or of train and test images
        ("80/20"); or a run, or its file: recorded files keep their parts, and others are divided.

        Raises:
            UsageError: the shares do not add up to 100, or there is no recorded division of that name.
        """
        if seed is not None and not 0 <= seed < 2**63:
            raise UsageError(f"--split-seed {seed}: a whole number from 0 on, below 2**63")
        by_seed = () if seed is None else ("--split-seed", str(seed))
        if split is None:
            return cls(seed=seed or 0, options=by_seed)
        if re.fullmatch(r"[-+0-9.,/%eEx ]*", split):
            return cls(shares=_shares(split), seed=seed or 0, options=("--split", split, *by_seed))
        if seed is not None:
            raise UsageError(f"--split-seed {seed}: {split} has a seed of its own; leave one of them out")
        path = Path(os.path.expanduser(split))  # which leaves a home that does not exist as it is
        path = path / DIVISION if path.is_dir() else path
        found = cls.read(path)
        return cls(**vars(found) | {"options": ("--split", str(path.resolve()))})

    @classmethod
    def read(cls, path: Path, *, classes: tuple[str, ...] = ()) -> "Division":
        """Return the division recorded in a file of a run's directory; with ``classes``, for no images but the run's.

        Raises:
            UsageError: it is not there, or damaged.
        """
        if not path.is_file():
            raise UsageError(f"--split {path}: there is no such file; expected {FORM} on folders without parts")
        try:
            found = fitted(parse_json(read_file(path)), _Recorded)
            parts = found.shares.keys()
            if not {"train", "test"} <= parts <= SHARES.keys() or not found.files.keys() <= parts:
                raise UsageError("its parts are not train, test and perhaps val")
            if abs(sum(found.shares.values()) - 1) > 1e-6 or min(found.shares.values()) <= 0:
                raise UsageError(f"its shares are {found.shares}")
        except UsageError as error:
            raise UsageError(f"{path} is no recorded split: {error}") from error
        known = {digest: part for part, digests in found.files.items() for digest in digests}
        asked = _default_or(found.shares, found.seed)
        return cls(shares=found.shares, seed=found.seed, recorded=known, classes=classes, options=asked)

    @property
    def closed(self) -> bool:
        """Whether images of a finished run are wanted again, and no others."""
        return bool(self.classes)

    def __str__(self) -> str:
        parts = [f"{100 * self.shares[part]:g}% {part}" for part in ("train", "val", "test") if part in self.shares]
        before = f", {len(self.recorded)} of them as recorded" if self.recorded else ""
        return f"{', '.join(parts)}, seed {self.seed}{before}"

    def to_json(self) -> dict[str, Any]:
        """Return how folders are divided, for a record."""
        before = {"recorded": len(self.recorded)} if self.recorded else {}
        return {"seed": self.seed, "shares": dict(self.shares), "by": "SHA-256 of each file's content"} | before


def _default_or(shares: Mapping[str, float], seed: int) -> tuple[str, ...]:
    """Return the options that give these shares and this seed; none where they are the default ones."""
    percent = [f"{100 * shares[part]:.10g}" for part in ("train", "val", "test") if part in shares]
    by_share = () if dict(shares) == SHARES else ("--split", "/".join(percent))
    return by_share + (() if seed == 0 else ("--split-seed", str(seed)))


def _shares(split: str) -> dict[str, float]:
    """Return the shares that percentages say; raises UsageError unless they are two or three that add up to 100."""
    try:
        numbers = [float(word) for word in split.split("/")]
    except ValueError:
        numbers = []
    parts = ("train", "test") if len(numbers) == 2 else ("train", "val", "test")
    if len(numbers) != len(parts) or abs(sum(numbers) - 100) > 1e-6 or not all(0 < number < 100 for number in numbers):
        raise UsageError(f"--split {split}: expected {FORM}; each above 0, together 100")
    by_part = dict(zip(parts, (number / 100 for number in numbers), strict=True))
    return {part: by_part[part] for part in SHARES if part in by_part}
