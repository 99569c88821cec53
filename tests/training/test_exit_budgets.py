"""Exits at equal shares of the trunk's MACs."""

import pytest

from compress import Architecture, UsageError, create
from compress.network_cost import part_costs
from compress.networks import spec_of
from compress.training import Method, spec_to_train
from compress.training.exit_budgets import placed_by_macs


def test_exits_are_at_equal_shares_of_the_macs() -> None:
    """Of MobileNetV2's blocks, which cost differently, equal numbers give unequal shares."""
    images = {"input_shape": (3, 32, 32), "classes": 10}
    spec = spec_to_train(Architecture("mobilenetv2"), Method(), "macs:4", **images)
    parts = part_costs(create("mobilenetv2"))
    trunk = [parts["stem"].macs, *(parts[f"blocks.{index}"].macs for index in range(len(spec.blocks)))]
    shares = [sum(trunk[: exit.block + 1]) / sum(trunk) for exit in spec.exits]
    largest = max(trunk) / sum(trunk)
    assert shares[-1] == 1
    assert all(abs(share - number / 4) <= largest / 2 + 1e-9 for number, share in enumerate(shares, start=1))
    equal = spec_of("mobilenetv2", exits=4)
    assert [exit.block for exit in spec.exits] != [exit.block for exit in equal.exits]


def test_every_exit_has_a_block_of_its_own() -> None:
    plain = spec_of("resnet8")
    assert placed_by_macs("macs:3", plain) == [1, 2, 3]
    assert placed_by_macs("macs:1", plain) == [3]


@pytest.mark.parametrize("exits", ["macs:", "macs:4", "macs:0", "macs:two", "macs:-1"])
def test_other_numbers_are_refused(exits: str) -> None:
    with pytest.raises(UsageError, match="from 1 to 3"):
        placed_by_macs(exits, spec_of("resnet8"))
