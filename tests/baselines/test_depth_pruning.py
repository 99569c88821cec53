"""Blocks left out and networks cut anew are ordinary networks, and cost exactly what was promised."""

import copy
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from baselines.depth_pruning import block_order, blocks_of, cut_anew, cut_order, harm, removable_blocks, without_blocks
from baselines.removal_order import Size
from baselines.scoring_data import ScoringData
from compress.data import Dataset, split
from compress.errors import UsageError
from compress.network_cost import part_costs
from compress.networks import Network, cut, spec_of
from compress.networks.foreign import zoo
from compress.training import Method
from compress.training.evaluation import cross_entropies, predict
from tests.baselines.networks import check_ordinary, differing, narrowed_by, network_of

TRUNKS = ["resnet14", "resnet20", "resnet20v1", "resnet20nl", "resnet14b2-3-1w4-6-8", "mobilenetv2w2-4-4-8-8-12-16"]


def skipping(network: Network, gone: set[int], images: Tensor) -> list[Tensor]:
    """The logits when those blocks hand on their shortcut alone."""
    features, logits = network.stem(images), []
    for number, block in enumerate(network.blocks, start=1):
        features = cast(Any, block).skip(features) if number in gone else block(features)
        if str(number) in network.heads:
            logits.append(network.heads[str(number)](features))
    return logits


@pytest.fixture
def scoring(tiny: Dataset) -> ScoringData:
    """40 validation images, and the objective of MW-BP with three exits."""
    objective = Method(name="mwbp").objective(spec_of("resnet14", exits=3))
    return ScoringData.of(split(tiny, validation=0.2, calibration=0.0, seed=0), objective, 0.0, seed=0)


@pytest.mark.parametrize(
    ("arch", "exits", "expected"),
    [
        ("resnet20", "end", (2, 3, 5, 6, 8, 9)),
        ("resnet20v1", "end", (2, 3, 5, 6, 8, 9)),
        ("resnet20nl", "end", (2, 3, 5, 6, 8, 9)),
        ("resnet8", "end", ()),
        ("mobilenetv2", "end", (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)),
        ("resnet20", "3,5,6,end", (2, 3, 5, 8, 9)),  # block 6 is all that the third exit adds
        ("resnet20", "1,3,end", (2, 3, 5, 6, 8, 9)),
        ("resnet14", "1,2,3,4,5,end", ()),
    ],
)
def test_blocks_that_keep_the_shape_and_open_no_stage_can_go(arch: str, exits: str, expected: tuple[int, ...]) -> None:
    assert removable_blocks(spec_of(arch, exits=exits)) == expected


@given(data=st.data(), arch=st.sampled_from(TRUNKS))
@settings(max_examples=4, deadline=None)
def test_any_moves_together_leave_an_ordinary_network_of_the_size_foretold(data: st.DataObject, arch: str) -> None:
    last = len(spec_of(arch).blocks)
    placed = sorted(data.draw(st.sets(st.integers(1, last), max_size=3)) | {last})
    network = network_of(arch, [*map(str, placed)])
    blocks = removable_blocks(network.spec)
    steps = block_order(network, {block: data.draw(st.floats(-1, 1)) for block in blocks})
    removed = [0] * len(blocks)
    for move in steps.moves:
        if data.draw(st.booleans()):
            for structure, units in move:
                removed[structure] += units
    assert all(gone <= units for gone, units in zip(removed, steps.units, strict=True))

    gone = set(blocks_of(network.spec, tuple(removed)))
    left = without_blocks(network, gone)
    images = torch.randn(2, 1, 8, 8)
    assert all(map(torch.equal, left(images), skipping(network, gone, images)))
    assert Size.of(left) == steps.size(tuple(removed))
    assert len(left.blocks) == last - len(gone)
    assert left.spec.arch == network.spec.arch
    check_ordinary(left)
    for number in range(1, len(placed) + 1):
        assert torch.equal(cut(left, number)(images)[-1], left(images)[number - 1])


def test_exits_move_to_the_last_block_left_and_heads_keep_their_weights() -> None:
    network = network_of("resnet20", "3,6,end")
    left = without_blocks(network, [3, 5, 6, 9])
    assert [exit.block for exit in left.spec.exits] == [2, 3, 5]
    assert list(left.heads) == ["2", "3", "5"]
    before, after = network.state_dict(), left.state_dict()
    for old, new in (
        ("heads.3", "heads.2"),
        ("heads.9", "heads.5"),
        ("blocks.3", "blocks.2"),
        ("blocks.7", "blocks.4"),
    ):
        names = [name for name in before if name.startswith(f"{old}.")]
        assert names
        assert all(torch.equal(before[name], after[name.replace(old, new, 1)]) for name in names)


def test_neither_the_network_nor_the_random_state_nor_the_copy_is_moved() -> None:
    network = network_of("resnet20", 3)
    untouched = copy.deepcopy(network)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for made in (without_blocks(network, [2, 5]).double(), cut_anew(network, 5, seed=3)):
        with torch.no_grad():
            for tensor in made.state_dict().values():
                tensor.add_(1)
    cut_order(network).size((2,))
    assert torch.equal(torch.rand(1), expected)
    assert not differing(network, untouched)


def test_blocks_go_from_a_narrowed_network_and_channels_from_a_shortened_one() -> None:
    network = network_of("mobilenetv2w4-4-4-8-8-12-16", 2)
    narrowed = narrowed_by(network, 1 / 4)
    blocks = removable_blocks(narrowed.spec)
    steps = block_order(narrowed, dict.fromkeys(blocks, 0.0))
    structure = steps.moves[0][0][0]
    removed = tuple(int(number == structure) for number in range(len(blocks)))
    both = without_blocks(narrowed, [blocks[structure]])
    assert Size.of(both) == steps.size(removed)
    again = narrowed_by(both, 1 / 4)
    assert Size.of(again).macs < Size.of(both).macs
    check_ordinary(again)
    once_more = without_blocks(again, removable_blocks(again.spec)[:1])
    check_ordinary(once_more)


def test_the_least_harmful_go_first_and_every_exit_keeps_its_worst_one() -> None:
    network = network_of("resnet20", "4,6,end")  # 5 and 6 are all between two exits, and both could go
    blocks = removable_blocks(network.spec)
    assert blocks == (2, 3, 5, 6, 8, 9)
    steps = block_order(network, {2: 0.5, 3: -0.1, 5: 0.01, 6: 0.02, 8: 0.3, 9: 0.0})
    assert [blocks[structure] for ((structure, _),) in steps.moves] == [3, 9, 5, 8, 2]
    assert not steps.lockstep
    assert steps.units == (1,) * 6


@pytest.mark.parametrize("arch", ["resnet14", "resnet14v1"])
def test_harm_is_the_rise_of_the_weighted_validation_loss(scoring: ScoringData, arch: str) -> None:
    network = network_of(arch, 3, size=14)
    weights = torch.tensor(scoring.objective.loss_weights, dtype=torch.float64)
    assert len(set(weights.tolist())) > 1

    def loss(network: Network) -> float:
        losses = cross_entropies(predict(network, scoring.judging, scoring.normalisation), scoring.judging.labels)
        return float(weights @ torch.tensor(losses, dtype=torch.float64) / weights.sum())

    found = harm(network.train(), scoring)
    assert all(module.training for module in network.modules())
    assert tuple(found) == (2, 4, 6)
    for block, rise in found.items():
        alone = loss(without_blocks(network, [block])) - loss(network)
        assert rise == pytest.approx(alone, abs=1e-5)
        assert abs(rise) > 1e-4


@pytest.mark.parametrize("exits", [1, 3])
def test_harm_charges_exactly_the_images_that_every_part_has_seen(scoring: ScoringData, exits: int) -> None:
    network = network_of("resnet14", exits, size=14)
    objective = Method(name="mwbp" if exits > 1 else "bp").objective(network.spec)
    seen: Counter[str] = Counter()

    def count(name: str) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            seen[name] += len(inputs[0]) if len(inputs[0]) > 1 else 0  # MACs are counted on one blank image

        network.get_submodule(name).register_forward_hook(hook)

    costs = part_costs(network)
    for name in costs:
        count(name)
    scoring = replace(scoring, objective=objective, macs=7)
    harm(network, scoring)
    assert scoring.macs == 7 + sum(images * costs[name].macs for name, images in seen.items())
    assert seen["stem"] == seen["blocks.0"] == len(scoring.judging) == 40
    assert seen["blocks.5"] == 40 * (1 + 2)  # the last one is removable itself


def test_harm_wants_something_to_remove(scoring: ScoringData) -> None:
    with pytest.raises(UsageError, match="resnet8 has none to leave out"):
        harm(network_of("resnet8"), scoring)
    assert scoring.macs == 0


class Small(nn.Module):
    """Somebody else's net: three convolutions with batch norm."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU())
        self.classify = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.late(self.middle(self.early(images))))
        return logits


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(zoo, "_registered", {"small": Small})
    return "small"


def test_of_somebody_elses_net_no_block_is_left_out(small: str, scoring: ScoringData) -> None:
    network = network_of(small)
    for attempt in (lambda: removable_blocks(network.spec), lambda: harm(network, scoring)):
        with pytest.raises(UsageError, match=r"blocks: small is somebody else's net.*use --method depth-cut"):
            attempt()


@pytest.mark.parametrize(
    ("arch", "pruned"), [("resnet14", False), ("resnet14b2-3-1w4-6-8", True), (TRUNKS[-1], False), ("small", True)]
)
def test_a_network_cut_anew_costs_what_was_foretold_wherever_it_ends(small: str, arch: str, pruned: bool) -> None:
    network = network_of(arch, 2)
    if pruned:
        network = narrowed_by(network, 1 / 3)
    steps, blocks = cut_order(network), len(network.spec.blocks)
    assert steps.lockstep
    assert (steps.units, steps.moves) == ((blocks,), (((0, 1),),) * (blocks - 1))
    assert steps.size((0,)) == Size.of(network)
    for gone in (1, blocks // 2, blocks - 1):
        part = cut_anew(network, blocks - gone, seed=0)
        assert Size.of(part) == steps.size((gone,))
    check_ordinary(cut_anew(network, blocks // 2, seed=0))


@pytest.mark.parametrize(
    ("arch", "block", "head"),
    [
        ("resnet14", 4, "bn-relu-gap-fc"),
        ("resnet14nl", 4, "bn-relu-gap-fc"),
        ("resnet14v1", 4, "gap-fc"),
        ("mobilenetv2", 10, "bn-relu-gap-fc"),  # features are linear there, and activated at its own end alone
        ("small", 2, "bn-relu-gap-fc"),
    ],
)
def test_the_trunk_and_earlier_exits_stay_and_the_end_is_new(small: str, arch: str, block: int, head: str) -> None:
    network = network_of(arch, ["1", str(block), "end"])
    part = cut_anew(network, block, seed=3)
    assert [(exit.block, exit.head) for exit in part.spec.exits] == [(1, network.spec.exits[0].head), (block, head)]
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(part(images)[0], network(images)[0])
    assert not torch.equal(part(images)[1], network(images)[1])  # there was an exit, whose head is not taken over
    kept = {name for name in part.state_dict() if not name.startswith(f"heads.{block}.")}
    assert all(torch.equal(part.state_dict()[name], network.state_dict()[name]) for name in kept)

    def ends(seed: int) -> list[Tensor]:
        return [*cut_anew(network, block, seed).heads[str(block)].state_dict().values()]

    assert all(map(torch.equal, ends(3), part.heads[str(block)].state_dict().values()))
    assert not all(map(torch.equal, ends(4), ends(3)))


def test_a_network_cut_anew_keeps_mode_and_precision() -> None:
    part = cut_anew(network_of("resnet8", 3).double().train(), 2, seed=0)
    assert part.training
    assert {tensor.dtype for tensor in part.parameters()} == {torch.float64}
