"""Budgets are met to within 1%, or refused with what can be reached."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from baselines import Budget, Technique
from baselines.budget import NEAREST, TOLERANCE, Quartiles
from baselines.budget_search import LATENCY_TRIALS, meet, meet_latency
from baselines.pruning_candidates import Candidates, find_candidates
from baselines.removal_order import Move, RemovalOrder, Removed, Size
from baselines.technique import CRITERIA, Scope
from compress.errors import UsageError
from compress.network_cost import cost
from compress.networks import Network, create
from tests.baselines.networks import scoring_data_of


def network_of(arch: str, input_shape: tuple[int, int, int]) -> Network:
    torch.manual_seed(0)
    return create(arch, input_shape=input_shape).eval()


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of("resnet20", (1, 8, 8))


@pytest.fixture(scope="module")
def options(network: Network) -> Candidates:
    return find_candidates(Technique(method="l1"), network, scoring_data_of(network))


@pytest.mark.parametrize("speedup", [1.2, 2.6, 30.0])
def test_a_speedup_is_met_to_within_one_percent(speedup: float, network: Network, options: Candidates) -> None:
    pruned = options.without(meet(Budget(speedup=speedup), options.order))
    assert cost(network).macs / cost(pruned).macs == pytest.approx(speedup, rel=0.0102)


@pytest.mark.parametrize("field", ["macs", "params"])
def test_macs_and_parameters_are_met_to_within_one_percent(field: str, network: Network, options: Candidates) -> None:
    target = getattr(cost(network), field) // 3
    pruned = options.without(meet(Budget(**{field: target}), options.order))
    assert getattr(cost(pruned), field) == pytest.approx(target, rel=TOLERANCE)


def test_a_ratio_is_of_the_channels_and_no_search(options: Candidates) -> None:
    units = sum(options.order.units)
    assert sum(meet(Budget(ratio=0.3), options.order)) == units - int(units * 0.7)


def test_a_speedup_may_be_of_a_network_that_was_larger_before(options: Candidates) -> None:
    now = options.order.size(options.order.none)
    whole = Size(macs=2 * now.macs, params=2 * now.params)
    left = options.order.size(meet(Budget(speedup=3), options.order, whole=whole))
    assert left.macs == pytest.approx(whole.macs / 3, rel=TOLERANCE)
    with pytest.raises(UsageError, match=r"speed-up of 1\.500\) cannot be reached: this network has"):
        meet(Budget(speedup=1.5), options.order, whole=whole)


def test_what_cannot_be_reached_is_refused_and_what_can_be_is_named(network: Network, options: Candidates) -> None:
    with pytest.raises(UsageError, match=r"speed-up of 100000\.000.*cannot be reached.*at the least") as refused:
        meet(Budget(speedup=1e5), options.order)
    smallest = options.without(tuple(units - 1 for units in options.order.units))
    assert options.order.smallest.macs == cost(smallest).macs
    assert f"{cost(smallest).macs:,} MACs" in str(refused.value)
    for budget in (Budget(macs=cost(network).macs), Budget(params=cost(network).params + 1), Budget(params=10)):
        with pytest.raises(UsageError, match="cannot be reached"):
            meet(budget, options.order, within=math.inf)


@pytest.mark.parametrize("within", [TOLERANCE, math.inf])
@pytest.mark.parametrize("budget", [Budget(speedup=1.001), Budget(ratio=1e-9)], ids=str)
def test_a_budget_that_needs_no_pruning_is_refused(budget: Budget, within: float, options: Candidates) -> None:
    order = options.order if budget.speedup else hand_made([(0, 1)], [10, 10])
    with pytest.raises(UsageError, match="nothing would be pruned"):
        meet(budget, order, within=within)


def hand_made(
    moves: Sequence[tuple[int, int]], each: Sequence[int], *, lockstep: bool = False, base: int = 1000
) -> RemovalOrder:
    """A removal order of a network of `base` MACs; `each` gives the MACs of a unit of every structure."""

    def size(removed: Removed) -> Size:
        return Size(macs=base - sum(gone * macs for gone, macs in zip(removed, each, strict=True)), params=base)

    made: tuple[Move, ...] = tuple((move,) for move in moves)
    none = (0,) * len(each)
    return RemovalOrder(units=(9,) * len(each), moves=made, size=size, lockstep=lockstep, at_ratio=lambda _: none)


def test_moves_are_taken_in_their_order_up_to_the_budget() -> None:
    order = hand_made([(0, 1), (1, 1), (0, 1), (1, 1)], [100, 50])
    assert meet(Budget(macs=850), order) == (1, 1)
    assert meet(Budget(macs=750), order) == (2, 1)


def test_one_that_overshoots_is_left_out_and_later_ones_go_instead() -> None:
    order = hand_made([(1, 1), (0, 1), (1, 1), (0, 1), (1, 1), (1, 1)], [300, 50])
    assert meet(Budget(macs=800), order) == (0, 4)
    assert meet(Budget(macs=650), order) == (1, 1)


def test_one_that_overshoots_by_less_than_the_tolerance_is_taken() -> None:
    assert meet(Budget(macs=800), hand_made([(0, 1), (1, 1), (1, 1)], [205, 20])) == (1, 0)


def test_where_it_is_near_enough_nothing_better_is_looked_for() -> None:
    order = hand_made([(0, 1), (1, 1), (2, 1)], [195, 100, 5])
    assert meet(Budget(macs=800), order) == (1, 0, 0)


def test_where_all_steps_are_too_coarse_both_sides_are_named_or_the_nearer_one_taken() -> None:
    order = hand_made([(0, 1), (0, 1), (0, 1)], [300])
    with pytest.raises(UsageError, match=r"cannot be met to within 1%: the nearest are 700 MACs .* and 400 MACs"):
        meet(Budget(macs=600), order)
    assert meet(Budget(macs=600), order, within=math.inf) == (1,)
    assert meet(Budget(macs=500), order, within=math.inf) == (2,)
    assert meet(Budget(macs=950), order, within=math.inf) == (1,)  # never nothing at all


@pytest.mark.parametrize("budget", [Budget(macs=950), Budget(speedup=1 / 0.3), Budget(params=300)], ids=str)
def test_the_nearest_is_refused_where_it_is_far_and_what_the_refusal_names_can_be_asked_for(budget: Budget) -> None:
    order = hand_made([(0, 1), (0, 1), (0, 1)], [300])
    order = replace(order, size=lambda removed: Size(*[1000 - 300 * removed[0]] * 2))
    with pytest.raises(UsageError, match=r"within 25%: .*; --nearest goes no further than 25%: ask for --") as refused:
        meet(budget, order, within=NEAREST)
    with pytest.raises(UsageError, match=r"within 1%: .*; --nearest goes no further than 25%: ask for --"):
        meet(budget, order)
    option, value = str(refused.value).split()[-2:]
    named = Budget(**{option.removeprefix("--"): float(value)})
    assert getattr(order.size(meet(named, order)), option.removeprefix("--")) == float(value)


def test_in_lockstep_no_move_is_left_out() -> None:
    moves, each = [(1, 1), (0, 1), (1, 1), (1, 1), (1, 1)], [300, 50]
    assert meet(Budget(macs=800), hand_made(moves, each)) == (0, 4)
    order = hand_made(moves, each, lockstep=True)
    with pytest.raises(UsageError, match=r"the nearest are 950 MACs \(a speed-up of 1\.053\) and 650 MACs \(a speed"):
        meet(Budget(macs=800), order)
    assert meet(Budget(macs=810), order, within=math.inf) == (0, 1)
    assert meet(Budget(macs=790), order, within=math.inf) == (1, 1)


def test_a_ratio_needs_channels() -> None:
    order = RemovalOrder(units=(1,), moves=(((0, 1),),), size=lambda removed: Size(100 - 10 * removed[0], 100))
    with pytest.raises(UsageError, match="--ratio is of channels, and this method removes none"):
        meet(Budget(ratio=0.5), order)


def latencies(
    slope: float, *, spread: float, noise: Callable[[int], float] = lambda _: 0.0
) -> tuple[Callable[[Removed], Quartiles], list[int]]:
    """A measurement that falls by `slope` per unit, and the numbers of units that it was called with."""
    asked: list[int] = []

    def measured(removed: Removed) -> Quartiles:
        asked.append(removed[0])
        median = 1 - slope * removed[0] + noise(removed[0])
        return median - spread, median, median + spread

    return measured, asked


HUNDRED = RemovalOrder(
    units=(101,), moves=tuple(((0, 1),) for _ in range(100)), size=lambda removed: Size(101 - removed[0], 1)
)


@pytest.mark.parametrize("ratio", [0.95, 0.7, 0.5, 0.25])
@pytest.mark.parametrize("noise", [0.0, 0.0015])
def test_a_latency_is_met_to_within_its_quartiles_in_a_few_measurements(ratio: float, noise: float) -> None:
    measured, asked = latencies(0.008, spread=0.006, noise=lambda count: noise * (-1) ** count)
    removed, quartiles = meet_latency(ratio, HUNDRED, measured)
    assert quartiles[0] <= ratio <= quartiles[2]
    assert quartiles == measured(removed)
    assert len(asked) <= LATENCY_TRIALS + 2


def test_a_latency_that_nothing_gives_is_refused_after_one_measurement() -> None:
    measured, asked = latencies(0.004, spread=0.01)
    with pytest.raises(UsageError, match=r"--latency-ratio 0\.3 was not met: .* are 0\.600 \[0\.590, 0\.610\]; --near"):
        meet_latency(0.3, HUNDRED, measured)
    assert asked == [100]
    with pytest.raises(UsageError, match=r"no further than 25%: ask for --latency-ratio 0\.600") as refused:
        meet_latency(0.3, HUNDRED, measured, nearest=True)
    named = float(str(refused.value).rpartition(" ")[2])
    assert meet_latency(named, HUNDRED, measured)[0][0] >= 97


@pytest.mark.parametrize(
    ("asked", "spread", "expected"),
    [
        (0.8, 0.01, 10),  # out of reach, but near
        (0.84, 0.02, 10),  # within the quartiles of the smallest by their width alone
        (0.85, 0.01, 10),
    ],
)
def test_of_networks_that_are_as_fast_the_largest_is_taken(asked: float, spread: float, expected: int) -> None:
    """Latency that stops falling after a tenth of the moves, as where an engine waits for other things."""
    median = {count: max(1 - 0.015 * count, 0.85) for count in range(101)}

    def measured(removed: Removed) -> Quartiles:
        middle = median[removed[0]]
        return middle - spread, middle, middle + spread

    removed, (low, _, high) = meet_latency(asked, HUNDRED, measured, nearest=True)
    assert removed[0] == pytest.approx(expected, abs=2)
    assert low <= max(asked, 0.86) <= high
    with pytest.raises(UsageError, match=r"--nearest goes no further than 17%: ask for --latency-ratio 0\.900"):
        meet_latency(0.75, HUNDRED, lambda _: (0.9, 0.9, 0.9), nearest=True)


def test_a_latency_between_two_states_is_refused_with_both_named_or_the_nearer_one_taken() -> None:
    measured, _ = latencies(0.1, spread=0.001)
    few = RemovalOrder(units=(9,), moves=tuple(((0, 1),) for _ in range(8)), size=HUNDRED.size)
    with pytest.raises(UsageError, match=r"the nearest measured, with their quartiles, are 0\.600 .* and 0\.700 \["):
        meet_latency(0.64, few, measured)
    assert meet_latency(0.64, few, measured, nearest=True)[0] == (4,)


def test_a_latency_is_never_met_by_nothing() -> None:
    measured, asked = latencies(0.03, spread=0.001)
    assert meet_latency(0.98, HUNDRED, measured, nearest=True)[0] == (1,)
    assert 0 not in asked


@pytest.fixture(scope="module")
def deep() -> Network:
    return network_of("resnet110", (3, 8, 8))


def speedup_of(order: RemovalOrder, removed: Removed) -> float:
    return order.size(order.none).macs / order.size(removed).macs


@pytest.mark.parametrize("method", CRITERIA)
def test_every_criterion_reaches_2_60x_globally(method: str, network: Network) -> None:
    options = find_candidates(Technique(method=method), network, scoring_data_of(network))
    removed = meet(Budget(speedup=2.6), options.order)
    assert speedup_of(options.order, removed) == pytest.approx(2.6, rel=TOLERANCE * 1.02)
    assert all(0 <= gone < units for gone, units in zip(removed, options.order.units, strict=True))


def test_resnet110_reaches_2_60x_in_inner_channels_and_equal_shares_near_594(deep: Network) -> None:
    options = uniformly(deep, "inner")
    removed = meet(Budget(speedup=2.6), options.order)
    assert speedup_of(options.order, removed) == pytest.approx(2.618, abs=0.001)
    assert removed == meet(Budget(ratio=0.594), options.order)


def test_resnet110_cannot_reach_2_60x_in_equal_shares_of_all_channels(deep: Network) -> None:
    options = uniformly(deep, "all")
    with pytest.raises(
        UsageError, match=r"the nearest are .*speed-up of 2\.557\) and .*speed-up of 2\.883\); --nearest"
    ):
        meet(Budget(speedup=2.6), options.order)
    removed = meet(Budget(speedup=2.6), options.order, within=NEAREST)
    assert speedup_of(options.order, removed) == pytest.approx(2.557, abs=0.001)


def uniformly(network: Network, scope: Scope) -> Candidates:
    return find_candidates(Technique(method="l1", scope=scope, ranking="uniform"), network, scoring_data_of(network))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "between 0 and 1"),
        ({"ratio": 1.0}, "between 0 and 1"),
        ({"ratio": -0.5}, "between 0 and 1"),
        ({"ratio": float("nan")}, "between 0 and 1"),
        ({"latency_ratio": 1.0}, "--latency-ratio 1: latency after / before lies between 0 and 1"),
        ({"latency_ratio": float("nan")}, "between 0 and 1"),
        ({"speedup": 1.0}, "above 1"),
        ({"speedup": float("nan")}, "above 1"),
        ({"speedup": float("inf")}, "above 1"),
        ({"macs": 0.0}, "--macs 0: must be above 0"),
        ({"params": -1.0}, "--params -1: must be above 0"),
        ({"params": float("inf")}, "above 0"),
        ({}, "give one of --ratio, --speedup, --macs, --params, --latency-ratio, not none"),
        ({"ratio": 0.5, "macs": 1e6}, "--ratio and --macs"),
    ],
)
def test_budgets_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Budget(**options)


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (Budget(ratio=0.5), "ratio 0.5"),
        (Budget(macs=41861728.0), "macs 41861728"),
        (Budget(speedup=2.6), "speedup 2.6"),
        (Budget(speedup=1 / 0.3), "speedup 3.3333333333333335"),
        (Budget(latency_ratio=0.5), "latency-ratio 0.5"),
    ],
    ids=str,
)
def test_a_budget_is_written_exactly(budget: Budget, text: str) -> None:
    assert str(budget) == text
