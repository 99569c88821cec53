"""Pruned networks are ordinary networks, and the channels they keep are torch-pruning's choice."""

import copy
import io
import json

import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from baselines.channels import (
    Channel,
    _groups,
    channels_to_remove,
    prunable_channels,
    rank_channels,
    ranked,
    remove_channels,
)
from compress.cost import exit_costs
from compress.errors import UsageError
from compress.networks import Network, Spec, create, cut, zoo


def network_of(arch: str = "resnet20", exits: int = 1, size: int = 8) -> Network:
    """A network whose batch norm has all kinds of statistics, as after training."""
    torch.manual_seed(1)
    network = create(arch, exits=exits, input_shape=(1, size, size))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.get_buffer("running_mean").normal_(std=0.1)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    return network.eval()


def pruned_at(network: Network, ratio: float) -> Network:
    return remove_channels(network, rank_channels(network, "l1")[: channels_to_remove(network.spec, ratio)])


def pruned_by_torch_pruning(network: Network, ratio: float) -> Network:
    pruned = copy.deepcopy(network)
    pruner = torch_pruning.pruner.BasePruner(
        pruned,
        (torch.zeros(1, *network.spec.input_shape),),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        global_pruning=True,
        pruning_ratio=ratio,
        ignored_layers=[layer for layer in pruned.heads.modules() if isinstance(layer, nn.Linear)],
    )
    pruner.step()
    return pruned


@pytest.mark.parametrize("arch", ["resnet20", "resnet20v1"])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.7])
def test_l1_keeps_the_channels_that_a_direct_call_of_torch_pruning_keeps(arch: str, ratio: float) -> None:
    network = network_of(arch, exits=2)
    ours, theirs = pruned_at(network, ratio), pruned_by_torch_pruning(network, ratio)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())


@given(
    arch=st.sampled_from(["resnet8", "resnet14", "resnet8v1"]),
    exits=st.integers(1, 3),
    ratio=st.floats(0.0, 1.0, exclude_min=True),
)
@settings(max_examples=20, deadline=None)
def test_any_ratio_gives_a_network_that_runs_and_is_rebuilt_from_its_spec(arch: str, exits: int, ratio: float) -> None:
    network = network_of(arch, exits)
    pruned = pruned_at(network, ratio)

    before, after = prunable_channels(network.spec), prunable_channels(pruned.spec)
    groups = sum(1 for block in network.spec.blocks if block.projection) + 1 + len(network.spec.blocks)
    assert after == max(int(before * (1 - ratio)), groups)  # one channel a group stays

    images = torch.randn(2, *network.spec.input_shape)
    logits = pruned.train()(images)
    assert [tuple(exit.shape) for exit in logits] == [(2, 10)] * exits
    torch.stack(logits).sum().backward()

    rebuilt = Network(Spec.from_json(json.loads(json.dumps(pruned.spec.to_json()))))
    rebuilt.load_state_dict(pruned.state_dict(), strict=True)
    assert all(map(torch.equal, rebuilt.eval()(images), pruned.eval()(images)))


def test_torch_pruning_alone_leaves_whole_groups_unpruned_at_high_ratios() -> None:
    """The trap that `rank_channels` avoids; when torch-pruning mends it, our own choice can go."""
    network = network_of()
    theirs = pruned_by_torch_pruning(network, 0.95)
    kept = sum(module.out_channels for module in theirs.modules() if isinstance(module, nn.Conv2d))
    ours = pruned_at(network, 0.95)
    assert prunable_channels(ours.spec) == int(prunable_channels(network.spec) * 0.05) < kept / 2


def test_the_original_is_untouched_and_no_random_number_is_drawn() -> None:
    network = network_of(exits=3)
    before = io.BytesIO()
    torch.save(network.state_dict(), before)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    pruned_at(network, 0.5)
    assert torch.equal(torch.rand(1), expected)
    after = io.BytesIO()
    torch.save(network.state_dict(), after)
    assert before.getvalue() == after.getvalue()


def test_a_pruned_network_can_be_cut_and_pruned_again() -> None:
    pruned = pruned_at(network_of(exits=3), 0.4)
    images = torch.randn(2, *pruned.spec.input_shape)
    assert torch.equal(cut(pruned, 2)(images)[-1], pruned(images)[1])
    again = pruned_at(pruned, 0.4)
    assert prunable_channels(again.spec) < prunable_channels(pruned.spec)


def test_channels_are_ranked_over_all_groups_and_the_best_of_each_stays() -> None:
    scores = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 0.5]), torch.tensor([20.0, 30.0, 40.0])]
    assert ranked(scores) == [Channel(1, 1), Channel(0, 0), Channel(0, 1), Channel(2, 0), Channel(2, 1)]


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("mobilenetv2", None),
        ("resnet20nl", None),
        ("resnet20", "bn-relu-conv-gap-fc"),
        ("resnet20", "bn-relu-flatten-fc"),
        ("resnet20v1", "relu-gap-fc"),
    ],
)
def test_every_block_and_head_is_pruned_and_rebuilt_from_its_spec(arch: str, head: str | None) -> None:
    torch.manual_seed(0)
    network = create(arch, exits=3, head=head).eval()
    pruned = pruned_at(network, 0.5)
    before, after = prunable_channels(network.spec), prunable_channels(pruned.spec)
    _, groups = _groups(copy.deepcopy(network))
    assert before == sum(len(group[0].idxs) for group in groups)
    assert after == before - channels_to_remove(network.spec, 0.5)
    again = Network(Spec.from_json(pruned.spec.to_json())).eval()
    again.load_state_dict(pruned.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    for one, other in zip(pruned(images), again(images), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_somebody_elses_net_is_pruned_and_rebuilt_from_its_spec(arch: str) -> None:
    torch.manual_seed(0)
    network = create(f"torchvision:{arch}", exits=2, input_shape=(1, 28, 28)).eval()
    pruned = pruned_at(network, 0.5)
    before, after = prunable_channels(network.spec), prunable_channels(pruned.spec)
    assert after == before - channels_to_remove(network.spec, 0.5)
    assert exit_costs(pruned)[-1].macs < exit_costs(network)[-1].macs / 2
    images = torch.randn(2, 1, 28, 28)
    logits = pruned(images)
    assert [exit.shape for exit in logits] == [(2, 10)] * 2
    for number, expected in enumerate(logits, start=1):
        part = cut(pruned, number)
        again = Network(Spec.from_json(json.loads(json.dumps(part.spec.to_json())))).eval()
        again.load_state_dict(part.state_dict(), strict=True)
        assert torch.equal(again(images)[0], expected)


class WidthInItsCode(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 8, 3)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = nn.functional.layer_norm(self.features(images).movedim(1, -1), (8,))
        logits: torch.Tensor = self.classifier(features.mean((1, 2)))
        return logits


def test_a_net_that_cannot_be_pruned_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_registered", {"fixed": WidthInItsCode})
    with pytest.raises(UsageError, match=r"fixed cannot be pruned: .* its code names a width") as refused:
        pruned_at(create("fixed", input_shape=(1, 9, 9)).eval(), 0.5)
    assert len(str(refused.value).splitlines()) == 1
