"""The choice among planted contenders: which is taken, which is next, and what is said of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import Limits, Serving
from benchmarks.selection.choice import as_good, choose, nearest_to_limits, next_better, told_apart
from benchmarks.selection.contender import Contender
from benchmarks.selection.explanation import cautions, missed, reasons
from benchmarks.selection.selected import Selection
from compress.errors import UsageError
from compress.runs import Run

Plant = Callable[..., Contender]
IMAGES = 10_000


@pytest.fixture
def plant(reopened: list[Run]) -> Plant:
    """A contender of so many MACs that errs on the images from `first` on, `errors` of them."""

    def planted(macs: float, errors: int, *, first: int = 0, exit: int = 1, images: int = IMAGES) -> Contender:
        right = np.ones(images, dtype=bool)
        right[first : first + errors] = False
        sizes: dict[str, Any] = {"macs": macs, "params": round(macs), "bytes": 4 * round(macs)}
        return Contender(run=reopened[2], exit=exit, val_accuracy=float(right.mean()), right=right, **sizes)

    return planted


def limited(contenders: Sequence[Contender], limits: Limits) -> list[Contender]:
    found = [replace(each, misses=limits.misses(each.costs, each.val_accuracy)) for each in contenders]
    return [replace(each, left_out=missed(each, limits)) for each in found]


def selection(contenders: Sequence[Contender], limits: Limits, max_drop: float = 0.01) -> Selection:
    return Selection(contenders=contenders, limits=limits, serving=Serving(engine="eager"), max_drop=max_drop)


def test_the_most_accurate_within_the_limit_wins_and_a_tie_goes_to_the_cheaper(plant: Plant) -> None:
    limits = Limits(macs=50)
    deep, good, tied, poor = plant(60, 0), plant(50, 1000), plant(40, 1000, first=5000), plant(10, 3000)
    found = limited([deep, good, tied, poor], limits)
    chosen = choose(found, limits)
    assert chosen is found[2]
    assert next_better(found, found[2], limits) is found[0]
    assert choose(found[:2], limits) is found[1]  # the limit is included


def test_of_two_with_the_same_answers_and_macs_the_smaller_wins(plant: Plant) -> None:
    small, large = plant(40, 1000, exit=2), plant(40, 1000, exit=1)
    small = replace(small, params=large.params - 1)
    assert str(large) < str(small)
    assert choose([large, small], Limits(macs=50)) is small


def test_one_that_the_images_cannot_tell_apart_goes_first_if_it_is_cheaper_and_not_much_worse(plant: Plant) -> None:
    best, alike = plant(50, 1000), plant(40, 1050, first=500)  # 500 errors each, and 50 more
    worse = plant(30, 1060)  # those of the best and 60 more: fewer than a point, and no luck
    assert as_good(alike, best)
    assert told_apart(worse, best)
    for contenders, expected in (([best, alike], alike), ([best, worse], best), ([best, alike, worse], alike)):
        assert choose(contenders, Limits(macs=50)) is expected
    assert choose([best, alike], Limits(macs=50), max_drop=0.001) is best
    dearer = replace(alike, macs=70.0)
    assert choose([best, dearer], Limits(macs=99)) is best


def test_of_equals_that_cost_the_same_the_more_accurate_wins(plant: Plant) -> None:
    best, alike = plant(50, 1000), plant(49.5, 1050, first=500)  # not told apart, and 1% cheaper
    assert as_good(alike, best)
    assert choose([best, alike], Limits(macs=50)) is best
    cheaper = plant(40, 1050, first=500)
    assert choose([best, alike, cheaper], Limits(macs=50)) is cheaper


def test_few_images_do_not_make_a_much_worse_network_as_good(plant: Plant) -> None:
    best, worse = plant(50, 1, images=27), plant(10, 5, images=27)  # 15 points, p = 0.125
    assert not told_apart(worse, best)
    limits = Limits(macs=50)
    made = selection([best, worse], limits)
    assert made.chosen is best
    [line, _] = cautions(made)
    assert "--max-drop 14.9 accepts that" in line
    assert selection([best, worse], limits, max_drop=0.149).chosen is worse


def test_what_was_not_measured_is_not_said_to_be_no_better(plant: Plant) -> None:
    """In other precisions than fp32 networks above the limits are not measured."""
    limits = Limits(macs=50)
    small, large = limited([plant(40, 1000), replace(plant(60, 0), val_accuracy=None)], limits)
    assert reasons(selection([small, large], limits))[-1] == (
        "next better: not known, as 1 network above the limits was not measured in fp32"
    )
    assert "none of the others is more accurate" in reasons(selection([small], limits))[-1]


def test_luck_is_named_where_it_may_have_decided(plant: Plant) -> None:
    limits, best, tied, near, far = Limits(), plant(9, 100), plant(10, 100), plant(10, 110, first=50), plant(10, 900)
    for others, lucky in (((tied,), False), ((tied, far), False), ((tied, near, far), True)):
        made = selection([best, *others], limits)
        assert made.chosen is best
        assert any("of many is too high by luck" in line for line in cautions(made)) is lucky


def test_the_limited_cost_decides_between_equals(plant: Plant) -> None:
    small = replace(plant(50, 9), params=10)
    quick = plant(40, 9, first=100)
    assert choose([small, quick], Limits(params=50)) is small
    assert choose([small, quick], Limits(params=50, macs=50)) is quick
    assert choose([small, quick], Limits()) is quick


def test_a_least_accuracy_is_met_by_the_cheapest_that_has_it(plant: Plant) -> None:
    limits = Limits(accuracy=0.9)
    alike = plant(45, 990, first=5000)
    found = limited([plant(60, 100), alike, plant(40, 1000), plant(30, 1001)], limits)
    assert [bool(each.left_out) for each in found] == [False, False, False, True]
    made = selection(found, limits)
    assert made.chosen is found[2]
    assert made.next_better is found[0]
    assert any("90.0%" in line and "[89.4, 90.6]" in line for line in cautions(made))
    victory, better = reasons(made)
    assert "with at least 90.0% on the 10,000 validation images the one with the lowest MACs" in victory
    assert better.endswith("+9.0 points, needs 6e-05M MACs: 1.5 times that of the chosen one")


def test_where_nothing_is_within_the_limits_the_nearest_is_named(plant: Plant) -> None:
    limits = Limits(macs=20e6, params=40e6)
    near, far = plant(24e6, 5000), replace(plant(26e6, 10), params=60_000_000)
    found = limited([far, near], limits)
    assert choose(found, limits) is None
    assert nearest_to_limits(found, limits) is found[1]
    assert found[0].left_out == "26M MACs: 1.3 times the limit, 60M parameters: 1.5 times the limit"
    [line] = reasons(selection(found, limits))
    assert line.endswith("comes nearest: 24M MACs: 1.2 times the limit")


def test_a_latency_that_may_be_above_the_limit_is_said(plant: Plant) -> None:
    limits = Limits(seconds=0.005)
    timed = replace(plant(50, 9), seconds=(0.0044, 0.0048, 0.006), seconds_interval=(0.0044, 0.0052))
    assert cautions(selection([timed], limits)) == [
        "the 95% interval of its median latency, 4.4 to 5.2 ms, holds the limit"
    ]
    noisy = replace(selection([timed], Limits(seconds=0.006)), noise=0.2)
    assert [line.partition(":")[0] for line in cautions(noisy)] == ["noisy"]


@pytest.mark.parametrize("limit", [{"macs": 0.0}, {"seconds": -1.0}, {"accuracy": 1.5}, {"bytes": float("nan")}])
def test_limits_that_nothing_meets_are_refused(limit: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="limit on"):
        Limits(**limit)
