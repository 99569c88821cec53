"""Main effects: what the section of a screen says, on runs whose responses are known."""

from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import stats

from benchmarks.report.comparison import Screen
from benchmarks.report.section import Section, Table
from benchmarks.report.sections.screen_effects import BY_RULE, GAIN, UNKNOWN, UNSEEN, main_effects_section
from benchmarks.results.factor_candidates import RULE
from benchmarks.study.factorial import Factor, Factorial
from compress.errors import UsageError
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


def test_costs_of_levels_stand_beside_their_effects() -> None:
    section = section_of(ROWS * 2, seeds=2)
    rows = table_of(section)
    assert [row["MACs of auxiliary exits, high / low"] for row in rows] == ["1.10x", "1.00x", "1.00x", "1.00x", "2.00x"]
    assert [row["training MACs, high / low"] for row in rows] == ["1.00x", "1.00x", "3.00x", "1.00x", "1.00x"]
    assert "MACs of the last exit, high / low" not in rows[0]  # they differ by 0.4%
    assert "Levels differ in MACs of auxiliary exits (a, e): what costs more" in texts_of(section)[0]


def test_effects_are_told_at_each_level_of_the_first_factor() -> None:
    section = section_of(ROWS, both=0.002)  # b is worth 0.4 points more at a's high level, 0.4 less at its low one
    [table] = [block for block in section.blocks if isinstance(block, Table)][1:]
    assert table.columns["factor"] == ["b", "c", "d", "e"]
    cells = [[table.columns[f"last exit, a {level}, points"][row] for level in ("low", "high")] for row in (0, 3)]
    assert [[cell.strip("*").split(" ±")[0] for cell in row] for row in cells] == [
        ["-0.40", "+0.40"],
        ["+2.00", "+2.00"],
    ]
    assert [heading for heading in table.columns if "low" in heading] == [
        "last exit, a low, points",
        "auxiliary exits, mean, a low, points",
    ]
    assert "the tables have 26)" in section.method
    assert len([block for block in section_of(ROWS[1:]).blocks if isinstance(block, Table)]) == 1


def test_what_the_ensemble_gains_is_said_of_images_that_it_has_not_seen() -> None:
    runs = [run(str(number), row) for number, row in enumerate(ROWS)]
    assert not any("Ensemble minus" in text for text in texts_of(screened(runs, ROWS)))
    for own in runs:
        own.ensemble = {"val_accuracy": 0.9}
    assert f"**Ensemble minus last exit**: {UNSEEN}." in texts_of(screened(runs, ROWS))
    for number, (own, (a, *_)) in enumerate(zip(runs, ROWS, strict=True)):
        own.ensemble["calibration_gain"] = None if number == 15 else 0.01 + 0.005 * (a > 0) + 0.001 * (-1) ** number
    [said] = [text for text in texts_of(screened(runs, ROWS)) if text.startswith(GAIN)]
    low, high = ([own.ensemble["calibration_gain"] for own in some] for some in (runs[:8], runs[8:15]))
    whole, of_low, of_high = ([100 * np.mean(some), 100 * stats.sem(some)] for some in (low + high, low, high))
    assert said == (
        f"{GAIN} {whole[0]:+.2f} ± {whole[1] * stats.t.ppf(0.975, 14):.2f} (15 runs); "
        f"a low {of_low[0]:+.2f} ± {of_low[1] * stats.t.ppf(0.975, 7):.2f} (8 runs); "
        f"a high {of_high[0]:+.2f} ± {of_high[1] * stats.t.ppf(0.975, 6):.2f} (7 runs). Of 1 more it is not known."
    )


def test_both_levels_are_in_words_where_the_comparison_has_them() -> None:
    section = section_of(ROWS)
    assert "low level" not in table_of(section)[0]
    words = ("arch = x", "", "", "", "")
    runs = [run(str(number), row) for number, row in enumerate(ROWS)]
    rows = table_of(screened(runs, ROWS, low=words))
    assert [row["low level"] for row in rows] == ["arch = x"] + 4 * ["default"]
    assert [row["high level"] for row in rows] == [f"{name} = 1" for name in NAMES]
    with pytest.raises(UsageError, match="a level, -1 or 1, of 5 factors"):
        screened(runs, ROWS, low=words[1:])


def test_a_response_that_a_run_lacks_is_named() -> None:
    runs = [run(str(number), row) for number, row in enumerate(ROWS)]
    runs[3].exits[0]["val_accuracy"] = None
    section = screened(runs, ROWS)
    assert "**Left out, as runs lack a value**: auxiliary exits, mean (1 of 16)." in texts_of(section)[0]
    assert "auxiliary exits, mean, points" not in table_of(section)[0]
    for own in runs:
        own.exits[0]["val_accuracy"] = own.exits[1]["val_accuracy"] = None
    assert texts_of(screened(runs, ROWS)) == ["16 of 16 runs were made. " + UNKNOWN]


def test_a_whole_seed_is_enough_to_choose_by() -> None:
    one, several = "Of 2 seeds one is whole: intervals are wider than planned", "Of 3 seeds 2 are whole"
    part = ", and runs of the others mix effects up with interactions in part."
    for rows, seeds, said in (
        (ROWS, 2, f"{one}."),
        (ROWS * 2 + ROWS[:3], 3, several),
        (ROWS + ROWS[:3], 2, one + part),
    ):
        section = section_of(rows, seeds=seeds)
        assert said in texts_of(section)[0]
        assert BY_RULE in table_of(section)[0]
    assert "whole" not in texts_of(section_of(ROWS * 2, seeds=2))[0]
    assert "not to choose by" in texts_of(section_of(ROWS[1:], seeds=2))[0]


def test_what_a_seed_changes_is_no_error_and_intervals_are_counted() -> None:
    first, second = section_of(ROWS), section_of(ROWS * 2, seeds=2)
    width = [float(table_of(section)[0]["last exit, points"].strip("*").split(" ± ")[1]) for section in (first, second)]
    assert width[1] < width[0]
    assert "the tables have 26)" in second.method


def section_of(rows: Sequence[tuple[int, ...]], *, seeds: int = 1, **more: Any) -> Section:
    """The section of a screen with a run for each of the rows, sixteen of a seed."""
    runs = [run(str(number), row, seed=number // 16, **more) for number, row in enumerate(rows)]
    return screened(runs, rows, seeds)


def screened(runs: Sequence[Mock], rows: Sequence[tuple[int, ...]], seeds: int = 1, **more: Any) -> Section:
    """The section of a screen with these runs, of these levels."""
    levels = {own.id: row for own, row in zip(runs, rows, strict=True)}
    screen = Screen(factors=NAMES, high=DESIGN.high, levels=levels, runs=16 * seeds, **more)
    section = main_effects_section(Mock(screen=screen, runs=runs))
    assert section is not None
    return section


def run(
    id: str, row: tuple[int, ...], *, seed: int = 0, both: float = 0.0, config: dict[str, Any] | None = None
) -> Mock:
    """A run to which a, b and e are worth 1, 0 and 2 points of its last exit, and 0, 3 and 4 of its first one.

    The second seed is 10 points better. Heads cost a tenth more with a and twice as much with e, training thrice as
    much with c, the last exit 0.4% more with a.
    """
    a, b, c, _, e = row
    chance = c * e / 1000 + both * a * b + seed / 10  # an interaction, which counts as error
    last, first = 0.6 + (a + 2 * e) / 200 + chance, 0.4 + (3 * b + 4 * e) / 200 + chance
    exits = [
        {"val_accuracy": first, "macs": 1e6 * 1.1 ** (a > 0) * 2 ** (e > 0)},
        {"val_accuracy": last, "macs": 5e6 * 1.004 ** (a > 0)},
    ]
    settings = config or {"kind": "train", "method": "mwbp", "objective": {}, "spec": {"exits": [1, 3]}}
    cost = {"total_training_macs": 1e12 * 3 ** (c > 0)}
    return Mock(
        id=id,
        exits=exits,
        ensemble=None,
        record=Mock(config=settings, seed=seed, cost=cost, data={"split": {"calibration": 2500}}),
    )
