"""Factorial: a screen of two-level factors by half of all their combinations, which tells main effects apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from compress.documents import fitted
from compress.errors import UsageError

FEWEST, MOST = 3, 7  # factors: with two, half of the combinations cannot tell them apart
BASE = "base"  # the run with every factor at its low level


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What is changed at once, by the keys of a ``[[run]]`` at its low and its high level."""

    name: str
    low: Mapping[str, Any]
    high: Mapping[str, Any]

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of either level, each once."""
        return tuple({**self.low, **self.high})


@dataclass(frozen=True, kw_only=True)
class Factorial:
    """The table `[factorial]` of a study's file: factors, and the keys that all of its runs share.

    Of K factors the last one's level is the product of the others' (with the sign by which `base` is among the runs): a
    fraction 2^(K-1) of resolution K. With five factors no main effect is mixed up with an interaction of two or three.
    """

    run: Mapping[str, Any]
    factor: tuple[Factor, ...]

    def __post_init__(self) -> None:
        names = [factor.name for factor in self.factor]
        if not FEWEST <= len(names) <= MOST or len(set(names)) < len(names):
            raise UsageError(f"factorial: {FEWEST} to {MOST} different factors, not {', '.join(names) or 'none'}")
        for factor in self.factor:
            if factor.low == factor.high:
                raise UsageError(f"factor {factor.name}: its low and high levels are the same")
        changed = [key for factor in self.factor for key in factor.keys]
        for key in changed:
            if changed.count(key) > 1 or key in ("name", "command"):
                rule = "a key is changed by one factor alone, name and command by none"
                raise UsageError(f"factorial: {key}: {rule}")

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names."""
        return tuple(factor.name for factor in self.factor)

    @property
    def low(self) -> tuple[str, ...]:
        """The keys of every factor at its low level, as in ``arch = resnet44``; empty where all have their defaults."""
        return tuple(self._words(factor, factor.low) for factor in self.factor)

    @property
    def high(self) -> tuple[str, ...]:
        """The same at its high level, as in ``annealing = last-third``."""
        return tuple(self._words(factor, factor.high) for factor in self.factor)

    @property
    def levels(self) -> dict[str, tuple[int, ...]]:
        """The level of every factor, -1 or 1, by the name of the run, `base` first."""
        sign = (-1) ** len(self.factor)
        rows = [(*some, sign * prod(some)) for some in product((-1, 1), repeat=len(self.factor) - 1)]
        return {self._name(row): row for row in rows}

    @property
    def tables(self) -> list[dict[str, Any]]:
        """A ``[[run]]`` table for every run."""
        tables = []
        for name, row in self.levels.items():
            changes = [factor.high if level > 0 else factor.low for factor, level in zip(self.factor, row, strict=True)]
            tables.append({"name": name, **self.run} | {key: value for each in changes for key, value in each.items()})
        return tables

    def _words(self, factor: Factor, level: Mapping[str, Any]) -> str:
        """A factor's keys at a level, those that all runs share included where the level does not change them."""
        values = {**self.run, **level}
        return ", ".join(f"{key} = {values[key]}" for key in factor.keys if key in values)

    def _name(self, row: tuple[int, ...]) -> str:
        """The factors at their high level, as in ``trunk + annealing``."""
        return " + ".join(name for name, level in zip(self.names, row, strict=True) if level > 0) or BASE


def read_factorial(table: object) -> Factorial:
    """The factorial that a study's file describes.

    Raises:
        UsageError: a key is missing, unknown or of another type, or there are too few or too many factors.
    """
    return fitted(table, Factorial, "factorial")
