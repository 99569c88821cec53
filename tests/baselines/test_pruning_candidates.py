"""Candidates keep the channels that torch-pruning keeps, except where torch-pruning errs."""

import copy

import pytest
import torch
import torch_pruning
from torch import nn
from torch.nn import functional

from baselines.coupling import Coupling
from baselines.pruning_candidates import Candidates, find_candidates
from baselines.scoring_data import ScoringData
from baselines.technique import Scope, Technique
from compress.data import Labelled, normalise
from compress.networks import Network
from compress.networks.blocks import Block
from tests.baselines.networks import differing, network_of, scoring_data_of
from tests.baselines.test_criteria import DIRECT


def pruned_directly(network: Network, scoring: ScoringData, method: str, ratio: float, **options: object) -> Network:
    """The network pruned by one call of torch-pruning, with the gradients of all training images' loss."""
    pruned = copy.deepcopy(network)
    if method == "taylor":
        logits = pruned(normalise(scoring.train.images, scoring.normalisation))
        losses = [functional.cross_entropy(exit, scoring.train.labels, label_smoothing=0.1) for exit in logits]
        (torch.stack(losses) * torch.tensor(scoring.objective.loss_weights)).sum().backward()
    kept: list[nn.Module] = [layer for layer in pruned.heads.modules() if isinstance(layer, nn.Linear)]
    if options.pop("inner", False):
        kept += [pruned.get_submodule("stem.0")]
        for block in pruned.blocks:
            last = [block.get_submodule("conv2"), *block.get_submodule("shortcut").modules()]
            kept += [layer for layer in last if isinstance(layer, nn.Conv2d)]
    torch_pruning.pruner.BasePruner(
        pruned,
        (torch.zeros(1, *network.spec.input_shape),),
        importance=DIRECT[method](),
        pruning_ratio=ratio,
        ignored_layers=kept,
        **options,
    ).step()
    return pruned


def at_ratio(options: Candidates, ratio: float) -> Network:
    assert options.order.at_ratio is not None
    return options.without(options.order.at_ratio(ratio))


@pytest.mark.parametrize("method", DIRECT)
def test_a_choice_keeps_the_channels_that_a_direct_call_of_torch_pruning_keeps(method: str, images: Labelled) -> None:
    network = network_of("resnet8", 2)
    scoring = scoring_data_of(network, images)
    options = find_candidates(Technique(method=method), network, scoring)
    for ratio in (0.2, 0.5):
        direct = pruned_directly(network, scoring, method, ratio, global_pruning=True)
        assert not differing(at_ratio(options, ratio), direct)
    assert differing(at_ratio(options, 0.2), at_ratio(options, 0.5))


@pytest.mark.parametrize("scope", ["all", "inner"])
@pytest.mark.parametrize("method", ["l1", "taylor"])
def test_a_uniform_choice_is_torch_prunings_by_layer(method: str, scope: Scope, images: Labelled) -> None:
    network = network_of("resnet8", 2)
    scoring = scoring_data_of(network, images)
    options = find_candidates(Technique(method=method, scope=scope, ranking="uniform"), network, scoring)
    for ratio in (0.33, 0.9):
        direct = pruned_directly(network, scoring, method, ratio, global_pruning=False, inner=scope == "inner")
        assert not differing(at_ratio(options, ratio), direct)


def test_torch_pruning_alone_leaves_whole_groups_unpruned_at_high_ratios(images: Labelled) -> None:
    """The trap that `by_score` avoids; when torch-pruning mends it, our own choice can go."""
    network = network_of("resnet14")
    scoring = scoring_data_of(network, images)
    direct = pruned_directly(network, scoring, "l1", 0.95, global_pruning=True)
    ours = at_ratio(find_candidates(Technique(method="l1"), network, scoring), 0.95)
    before, kept = channels_of(network), channels_of(direct)
    assert channels_of(ours) == int(before * 0.05) < kept / 2


def channels_of(network: Network) -> int:
    return sum(Coupling(network).within("all").units)


def widths(network: Network) -> list[int]:
    """The inner and the output width of every block."""
    return [width for block in network.spec.blocks for width in (block.width, block.out)]


def test_torch_pruning_rounds_down_and_we_to_the_nearest(images: Labelled) -> None:
    """The trap that `rounded` avoids; when torch-pruning mends it, ours can go."""
    network = network_of()
    scoring = scoring_data_of(network, images)
    options = find_candidates(Technique(method="l1", ranking="uniform", round_to=8), network, scoring)

    def both(ratio: float) -> tuple[list[int], list[int]]:
        direct = pruned_directly(network, scoring, "l1", ratio, global_pruning=False, round_to=8)
        return [width for block in direct.blocks for width in block_widths(block)], widths(at_ratio(options, ratio))

    # Of 11, 22 and 44, and of 6, 12 and 25.
    assert both(0.3) == ([8, 8, 16, 16, 40, 40], [8, 8, 24, 24, 40, 40])
    assert both(0.6) == ([16, 16, 8, 8, 24, 24], [8, 8, 8, 8, 24, 24])


def block_widths(block: nn.Module) -> tuple[int, int]:
    assert isinstance(block, Block)
    return block.widths
