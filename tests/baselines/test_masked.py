"""A pruned network equals its masked whole to rounding, or is refused by the name of the module."""

import pytest
import torch

from baselines import channels as pruning
from baselines.channels import Channel, remove_channels
from baselines.coupling import Coupling
from baselines.masked import check_wiring, kept_weights, number_weights, take
from compress.errors import UsageError
from compress.networks import Network, create


def half(network: Network) -> list[Channel]:
    """Half of every group's units, drawn."""
    generator = torch.Generator().manual_seed(0)
    return [
        Channel(number, index)
        for number, group in enumerate(Coupling(network).groups)
        for index in torch.randperm(group.units, generator=generator)[: group.units // 2].tolist()
    ]


def test_what_is_kept_is_told_by_numbered_weights() -> None:
    network = create("resnet8", input_shape=(1, 8, 8))
    numbered = create("resnet8", input_shape=(1, 8, 8))
    number_weights(numbered)
    kept = kept_weights(numbered)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in take(network, kept).items())


@pytest.mark.parametrize("exits", [1, 3])
def test_channels_that_change_places_are_found_and_the_module_is_named(
    exits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels of a layer that reads them are exchanged behind torch-pruning's back."""
    torch.manual_seed(0)
    network = create("resnet8", exits=exits, input_shape=(1, 8, 8)).eval()
    found = []

    def swapped(whole: Network, pruned: Network, kept: dict[str, torch.Tensor]) -> None:
        found.append(check_wiring(whole, pruned, kept))
        wrong = {name: value.clone() for name, value in kept.items()}
        wrong["blocks.1.conv1.weight"][:, [0, 1]] = wrong["blocks.1.conv1.weight"][:, [1, 0]]
        check_wiring(whole, pruned, wrong)

    monkeypatch.setattr(pruning, "check_wiring", swapped)
    with pytest.raises(UsageError, match=r"resnet8 cannot be pruned: module blocks\.1\.conv1 is given other channels"):
        remove_channels(network, half(network))
    assert 0 <= found[0] < 1e-13
