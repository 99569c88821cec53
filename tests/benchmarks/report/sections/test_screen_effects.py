"""Main effects: what the section of a screen says, on runs whose responses are known."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

from benchmarks.report.comparison import Screen
from benchmarks.report.section import Section
from benchmarks.report.sections.screen_effects import BY_RULE, main_effects_section
from benchmarks.results.candidates import RULE
from benchmarks.study.factorial import Factor, Factorial
from tests.benchmarks.report.conftest import table_of, texts_of

NAMES = tuple("abcde")
DESIGN = Factorial(run={}, factor=tuple(Factor(name=name, low={}, high={name: 1}) for name in NAMES))
ROWS = list(DESIGN.levels.values())
PLAIN = {"kind": "train", "method": "bp", "objective": {}, "spec": {"exits": [3]}}


def test_candidates_are_named_and_are_not_winners() -> None:
    section = section_of(ROWS)
    assert [row[BY_RULE] for row in table_of(section)] == [
        "candidate: last exit",
        "candidate: early exits",
        "no candidate",
        "no candidate",
        "candidate: last exit and early exits",
    ]
    text = next(text for text in texts_of(section) if text.startswith(RULE))
    assert text.endswith("with new seeds against plain training, which no run of this screen is.")
    assert texts_of(section_of(ROWS, config=PLAIN))[1].endswith("with new seeds against plain training.")


def test_there_are_no_candidates_where_effects_are_mixed_up() -> None:
    section = section_of(ROWS[1:])
    assert not any(RULE in text for text in texts_of(section))
    assert BY_RULE not in table_of(section)[0]


def section_of(rows: Sequence[tuple[int, ...]], **more: Any) -> Section:
    """The section of a screen with a run for each of the rows."""
    runs = [run(str(number), row, **more) for number, row in enumerate(rows)]
    levels = {own.id: row for own, row in zip(runs, rows, strict=True)}
    screen = Screen(factors=NAMES, high=DESIGN.high, levels=levels, runs=16)
    section = main_effects_section(Mock(screen=screen, runs=runs))
    assert section is not None
    return section


def run(id: str, row: tuple[int, ...], *, config: dict[str, Any] | None = None) -> Mock:
    """A run to which a, b and e are worth 1, 0 and 2 points of its last exit, and 0, 3 and 4 of its first one."""
    a, b, c, _, e = row
    chance = c * e / 1000  # an interaction, which counts as error
    last, first = 0.8 + (a + 2 * e) / 200 + chance, 0.6 + (3 * b + 4 * e) / 200 + chance
    exits = [{"val_accuracy": first}, {"val_accuracy": last}]
    settings = config or {"kind": "train", "method": "mwbp", "objective": {}, "spec": {"exits": [1, 3]}}
    return Mock(id=id, exits=exits, ensemble=None, record=Mock(config=settings))
