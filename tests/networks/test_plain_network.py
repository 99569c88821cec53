"""Plain networks: an ordinary classifier's call and names, whatever the network is made of."""

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from compress import Architecture, create, cut, load_weights, plain
from compress.networks import Network
from tests.baselines.networks import narrowed_by, trained_like

SHAPE = (1, 16, 16)


def made(arch: str, exits: int | str = 3) -> Network:
    torch.manual_seed(1)
    sized = Architecture(arch, image_size=32 if ":" in arch else None)
    return trained_like(create(sized, exits=exits, input_shape=SHAPE, classes=5))


NETWORKS = {
    "ours": lambda: made("resnet8"),
    "ours, pruned": lambda: narrowed_by(made("mobilenetv2"), 0.5),
    "ours, cut": lambda: cut(made("resnet8"), 2),
    "foreign": lambda: made("torchvision:resnet18"),
    "foreign, cut": lambda: cut(made("torchvision:resnet18"), 2),
    "foreign, pruned": lambda: narrowed_by(made("torchvision:resnet18"), 0.5),
    "foreign, pruned, cut": lambda: cut(narrowed_by(made("torchvision:resnet18"), 0.5), 1),
    "foreign, with switches in train mode": lambda: made("torchvision:mobilenet_v3_small"),
}


@pytest.mark.parametrize("which", NETWORKS)
def test_the_logits_of_the_last_exit_come_back_bit_for_bit_after_all_that_is_done_to_a_module(
    which: str, tmp_path: Path
) -> None:
    network = NETWORKS[which]()
    classifier, images = plain(network), torch.randn(3, *SHAPE)
    with torch.no_grad():
        expected = network(images)[-1]
        assert torch.equal(classifier(images), expected)
        assert torch.equal(copy.deepcopy(classifier)(images), expected)
        torch.save(classifier.state_dict(), tmp_path / "weights.pt")
        other = plain(Network(network.spec)).eval()
        assert not torch.equal(other(images), expected)
        other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        assert torch.equal(other(images), expected)
        again = Network(network.spec).eval()
        load_weights(again, tmp_path / "weights.pt")
        assert torch.equal(again(images)[-1], expected)
        assert torch.equal(network(images)[-1], expected)


@pytest.mark.parametrize("which", ["ours, pruned", "foreign, pruned", "foreign, with switches in train mode"])
def test_it_is_exported_trained_and_is_a_copy(which: str) -> None:
    network = NETWORKS[which]()
    classifier, images = plain(network), torch.randn(3, *SHAPE)
    batch = {0: torch.export.Dim("batch", min=2)}
    program = torch.export.export(classifier, (images,), dynamic_shapes=(batch,))
    torch.testing.assert_close(program.module()(torch.cat([images, images])), classifier(torch.cat([images, images])))
    before = network(images)[-1]
    classifier.train()
    nn.functional.cross_entropy(classifier(images), torch.tensor([0, 1, 2])).backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())
    torch.optim.SGD(classifier.parameters(), lr=0.1).step()
    assert not torch.equal(classifier.eval()(images), before)
    assert torch.equal(network(images)[-1], before)


def test_the_names_are_the_originals() -> None:
    whole = torchvision.models.resnet18(num_classes=5)
    state = plain(made("torchvision:resnet18")).state_dict()
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in whole.state_dict().items()
    }
    whole.load_state_dict(state)
    parts = {name.partition(".")[0] for name in plain(made("resnet8")).state_dict()}
    assert parts == {"stem", "blocks", "head"}


def test_a_classifier_follows_its_networks_mode() -> None:
    network = made("torchvision:mobilenet_v3_small").train()
    assert all(module.training for module in plain(network).modules())
    assert not any(module.training for module in plain(network.eval()).modules())
