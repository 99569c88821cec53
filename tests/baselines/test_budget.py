"""Budgets are met to within 1%, or refused with what can be reached."""

import bisect

import pytest
import torch

from baselines import Budget
from baselines.budget import TOLERANCE, meet
from baselines.channels import rank_channels, remove_channels
from compress.cost import cost
from compress.errors import UsageError
from compress.networks import Network, create


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return create("resnet20", input_shape=(1, 16, 16)).eval()


def met(network: Network, budget: Budget) -> float:
    """The speed-up that meeting the budget gives."""
    pruned = meet(budget, network, "l1")
    return cost(network).macs / cost(pruned).macs


@pytest.mark.parametrize("speedup", [1.2, 2.0, 2.6, 6.0, 30.0])
def test_a_speedup_is_met_to_within_one_percent(speedup: float, network: Network) -> None:
    assert met(network, Budget(speedup=speedup)) == pytest.approx(speedup, rel=0.0102)


def test_macs_are_met_to_within_one_percent(network: Network) -> None:
    target = cost(network).macs // 3
    assert met(network, Budget(macs=target)) == pytest.approx(3, rel=0.0102)


def test_what_cannot_be_reached_is_refused_and_what_can_be_is_named(network: Network) -> None:
    with pytest.raises(UsageError, match=r"speed-up of 100000\.00.*cannot be reached.*at the least") as refused:
        met(network, Budget(speedup=1e5))
    least = meet(Budget(ratio=0.9999), network, "l1")
    assert f"{cost(least).macs:,}" in str(refused.value)
    with pytest.raises(UsageError, match="cannot be reached"):
        met(network, Budget(macs=cost(network).macs))


def test_a_channel_that_alone_overshoots_is_kept_and_later_ones_go_instead(network: Network) -> None:
    """Here the plain order jumps over 2.00x, as a channel that is joined over a stage goes."""
    order = rank_channels(network, "l1")
    target = cost(network).macs / 2

    def macs(count: int) -> int:
        return cost(remove_channels(network, order[:count])).macs

    above = bisect.bisect(range(len(order)), -target, key=lambda count: -macs(count)) - 1  # MACs fall with the count
    assert macs(above) > target * (1 + TOLERANCE)
    assert macs(above + 1) < target * (1 - TOLERANCE)
    assert met(network, Budget(speedup=2)) == pytest.approx(2, rel=0.0102)


def test_where_all_steps_are_too_coarse_both_sides_are_named(network: Network) -> None:
    nearly_all = remove_channels(network, rank_channels(network, "l1")[:-1])  # one more can go
    sides = [cost(nearly_all).macs, cost(meet(Budget(ratio=0.9999), nearly_all, "l1")).macs]
    with pytest.raises(UsageError, match="cannot be met to within 1%: the nearest are") as refused:
        meet(Budget(macs=sum(sides) / 2), nearly_all, "l1")
    assert all(f"{side:,}" in str(refused.value) for side in sides)


def test_a_budget_that_needs_no_pruning_is_refused(network: Network) -> None:
    with pytest.raises(UsageError, match="nothing would be pruned"):
        meet(Budget(speedup=1.001), network, "l1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "between 0 and 1"),
        ({"ratio": 1.0}, "between 0 and 1"),
        ({"ratio": -0.5}, "between 0 and 1"),
        ({"ratio": float("nan")}, "between 0 and 1"),
        ({"speedup": 1.0}, "above 1"),
        ({"speedup": float("nan")}, "above 1"),
        ({"macs": 0.0}, "above 0"),
        ({}, "give one of"),
        ({"ratio": 0.5, "macs": 1e6}, "ratio and macs"),
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
    ],
)
def test_a_budget_is_written_exactly(budget: Budget, text: str) -> None:
    assert str(budget) == text
