"""Channels go in the order that scores give, and what is left is an ordinary network."""

import io
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from baselines.channels import ascending, by_score, in_equal_shares, one_by_one, remove_channels, rounded
from baselines.coupling import Coupling, Group
from baselines.removal_order import RemovalOrder, Removed, Size
from compress import Architecture
from compress.networks import Network, create, cut
from compress.networks.foreign import zoo
from tests.baselines.networks import check_ordinary, differing, network_of


def channels_of(network: Network) -> int:
    return sum(Coupling(network).within("all").units)


def unsized(removed: Removed) -> Size:
    raise AssertionError("no order here needs a size")


def at_ratio(order: RemovalOrder, ratio: float) -> Removed:
    assert order.at_ratio is not None
    return order.at_ratio(ratio)


def group(units: int, ways: int = 1) -> Group:
    return Group(units=units, ways=ways, joined=False)


SCORES = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 0.5]), torch.tensor([20.0, 30.0, 40.0])]
GROUPS = [group(3), group(2), group(3)]


def numbers(moves: Sequence[tuple[tuple[int, int], ...]]) -> list[int]:
    assert all(len(move) == 1 and move[0][1] == 1 for move in moves)
    return [move[0][0] for move in moves]


def test_channels_are_ranked_over_all_groups_and_the_best_of_each_stays() -> None:
    order = by_score(SCORES, GROUPS, unsized)
    assert numbers(order.moves) == [1, 0, 0, 2, 2]
    assert not order.lockstep
    assert ascending(SCORES, GROUPS) == [[0, 1, 2], [1, 0], [0, 1, 2]]
    # Of 8 units, as torch-pruning rounds: 8 - int(8 * (1 - ratio)).
    assert [sum(at_ratio(order, ratio)) for ratio in (0.01, 0.125, 0.126, 0.5, 0.99)] == [1, 1, 2, 4, 5]
    assert at_ratio(order, 0.5) == (2, 1, 1)


def test_a_units_score_is_the_mean_of_its_channels() -> None:
    scores = [torch.tensor([1.0, 5.0, 9.0, 3.0, 6.0, 0.0]), torch.tensor([4.5, 2.5])]
    groups = [group(3, ways=2), group(2)]  # units of channels 0 and 3, 1 and 4, 2 and 5: 2, 5.5, 4.5
    assert ascending(scores, groups) == [[0, 2, 1], [1, 0]]
    assert numbers(by_score(scores, groups, unsized).moves) == [0, 1, 0]


def test_one_by_one_takes_the_groups_named_in_their_order() -> None:
    order = one_by_one([1, 0, 1, 1], [3, 4], unsized)
    assert numbers(order.moves) == [1, 0, 1, 1]
    assert [at_ratio(order, ratio) for ratio in (0.1, 0.4, 0.9)] == [(0, 1), (1, 2), (1, 3)]


def test_equal_shares_go_together() -> None:
    order = in_equal_shares([4, 2, 1], unsized)
    assert order.moves == (((0, 1), (1, 1)), ((0, 1),), ((0, 1),))
    assert order.lockstep
    assert [at_ratio(order, ratio) for ratio in (0.2, 0.3, 0.6, 0.99)] == [(1, 1, 0), (2, 1, 0), (3, 1, 0), (3, 1, 0)]


@given(units=st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_every_share_is_a_state_on_the_way_and_one_unit_of_each_stays(units: list[int]) -> None:
    order = in_equal_shares(units, unsized)
    states = [order.after(order.moves[:count]) for count in range(len(order.moves) + 1)]
    shares = sorted({Fraction(count, own) for own in units for count in range(own + 1)})
    between = [at_ratio(order, float(low + high) / 2) for low, high in pairwise(shares)]
    assert list(dict.fromkeys([(0,) * len(units), *between])) == states
    assert states[-1] == tuple(own - 1 for own in units)


def test_widths_are_rounded_to_the_nearest_multiple_halves_down() -> None:
    plain = in_equal_shares([16, 32, 64], unsized)
    order = rounded(plain, [group(16), group(32), group(64)], 8)

    def kept(ratio: float) -> list[int]:
        return [own - gone for own, gone in zip((16, 32, 64), at_ratio(order, ratio), strict=True)]

    assert kept(0.3) == [8, 24, 40]  # of 11, 22 and 44
    assert kept(0.2) == [8, 24, 48]  # of 12, 25 and 51
    assert kept(0.6) == [8, 8, 24]  # of 6, 12 and 25
    assert kept(0.99) == [8, 8, 8]
    assert order.lockstep
    assert order.after(order.moves) == (8, 24, 56)


def test_widths_that_no_multiple_fits_stay_whole() -> None:
    groups = [group(6), group(20), group(4, ways=6)]
    order = rounded(in_equal_shares([6, 20, 4], unsized), groups, 8)
    assert at_ratio(order, 0.99) == (0, 12, 0)
    assert at_ratio(order, 0.05) == (0, 0, 0)


@given(
    units=st.lists(st.integers(1, 24), min_size=1, max_size=4),
    multiple=st.integers(2, 9),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_rounded_widths_are_nearest_at_every_ratio_and_on_the_way(
    units: list[int], multiple: int, ratio: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups = [group(own) for own in units]
    plain = by_score([torch.rand(own, generator=generator) for own in units], groups, unsized)
    order = rounded(plain, groups, multiple)
    for own, gone, exact in zip(units, at_ratio(order, ratio), at_ratio(plain, ratio), strict=True):
        width = own - gone
        assert width == own or width % multiple == 0
        others = [own, *range(multiple, own, multiple)]
        assert abs(width - (own - exact)) == min(abs(other - (own - exact)) for other in others)
    for count in range(len(order.moves) + 1):
        pairs = zip(units, order.after(order.moves[:count]), strict=True)
        assert all((own - gone) % multiple == 0 or not gone for own, gone in pairs)


def pruned_at(network: Network, ratio: float) -> Network:
    """Without so much of the whole, the units of most absolute weight kept in each group."""
    coupling = Coupling(network)
    shares = at_ratio(in_equal_shares(coupling.within("all").units, unsized), ratio)
    return remove_channels(network, {group: range(count) for group, count in enumerate(shares)})


@given(
    arch=st.sampled_from(["resnet8", "resnet14", "resnet8v1", "resnet8nl", "resnet14b1-2-1w3-6-5"]),
    exits=st.integers(1, 3),
    ratio=st.floats(0.01, 0.99),
)
@settings(max_examples=4, deadline=None)
def test_any_ratio_gives_a_network_that_runs_and_is_rebuilt_from_its_spec(arch: str, exits: int, ratio: float) -> None:
    network = network_of(arch, exits)
    check_ordinary(pruned_at(network, ratio))


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("mobilenetv2b1-2-1-1-1-1-1w8-8-8-16-16-24-24", None),
        ("resnet8nl", "ln-mean-fc"),
        ("resnet8", "bn-relu-conv-gap-fc"),
        ("resnet8", "bn-relu-flatten-fc"),
        ("resnet8v1", "relu-gap-fc"),
    ],
)
def test_every_block_and_head_is_pruned_and_rebuilt_from_its_spec(arch: str, head: str | None) -> None:
    torch.manual_seed(0)
    pruned = pruned_at(create(Architecture(arch, head=head), exits=3, input_shape=(1, 8, 8)).eval(), 0.5)
    check_ordinary(pruned)


def test_the_original_is_untouched_and_no_random_number_is_drawn() -> None:
    network = network_of(exits=3)
    before, after = io.BytesIO(), io.BytesIO()
    torch.save(network.state_dict(), before)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pruned_at(network, 0.5)
    assert torch.equal(torch.rand(1), expected)
    torch.save(network.state_dict(), after)
    assert before.getvalue() == after.getvalue()


def test_without_channels_to_remove_it_is_a_copy() -> None:
    network = network_of(exits=2)
    copied = remove_channels(network, {})
    assert copied.spec == network.spec
    assert not differing(copied, network)
    assert not any(map(torch.Tensor.is_set_to, copied.parameters(), network.parameters()))


def test_precision_is_kept() -> None:
    pruned = pruned_at(network_of().double(), 0.5)
    assert {parameter.dtype for parameter in pruned.parameters()} == {torch.float64}
    assert not any(module.training for module in pruned.modules())


def test_a_pruned_network_can_be_cut_and_pruned_again() -> None:
    pruned = pruned_at(network_of(exits=3), 0.4)
    images = torch.randn(2, *pruned.spec.input_shape)
    assert torch.equal(cut(pruned, 2)(images)[-1], pruned(images)[1])
    again = pruned_at(pruned, 0.4)
    assert channels_of(again) < channels_of(pruned) < channels_of(network_of())
    check_ordinary(again)


class Padded(nn.Module):
    """A shortcut without parameters: features at half the size, channels padded by zeros."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.branch = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.classifier = nn.Linear(16, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images).relu()
        shortcut = self.widened(features[:, :, ::2, ::2])
        logits: torch.Tensor = self.classifier((self.branch(features) + shortcut).relu().mean((2, 3)))
        return logits

    def widened(self, features: torch.Tensor) -> torch.Tensor:
        return functional.pad(features, (0, 0, 0, 0, 4, 4))


class PaddedByConcatenation(Padded):
    def widened(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([features, features.mul(0)], 1)


class WidthInItsCode(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 8, 3)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = nn.functional.layer_norm(self.features(images).movedim(1, -1), (8,))
        logits: torch.Tensor = self.classifier(features.mean((1, 2)))
        return logits


@pytest.mark.parametrize(
    ("net", "left"), [(Padded, ["branch"]), (PaddedByConcatenation, []), (WidthInItsCode, ["features"])]
)
def test_a_width_that_the_code_names_stays(
    net: type[nn.Module], left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels that zeros are padded to are not named; torch-pruning corrupts their widths in silence."""
    monkeypatch.setattr(zoo, "_registered", {"theirs": net})
    network = create("theirs", input_shape=(1, 9, 9)).eval()
    coupling = Coupling(network)
    assert [group.units for group in coupling.groups] == ([] if net is WidthInItsCode else [8])
    assert list(coupling.left) == left
    check_ordinary(pruned_at(network, 0.3))
