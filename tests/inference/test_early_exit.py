"""Early exit: the decisions of the simulation at every batch size, and nothing computed behind them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress import Architecture
from compress.errors import UsageError
from compress.inference import EarlyExit, Exited, Policy, simulate
from compress.networks import Network, create, register
from compress.networks.foreign import zoo
from tests.baselines.networks import narrowed_by, network_of, trained_like
from tests.inference.conftest import COUNT, even_policy, logits_of
from tests.networks.conftest import narrow_transformer


class InPlace(nn.Module):
    """A user's net, whose second part changes the features in place that the exit before it has read."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.rectifier = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 6, 3)
        self.classifier = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.second(self.rectifier(self.first(images))).mean((2, 3)))
        return logits


def foreign(arch: str, exits: int | str, factory: Callable[[int], nn.Module] | None = None, size: int = 8) -> Network:
    if factory:
        register(arch, factory)
    torch.manual_seed(0)
    network = trained_like(create(Architecture(arch, image_size=size), exits=exits, input_shape=(1, 8, 8)))
    for parameter in network.heads.parameters():
        if not parameter.any():  # the transformer's own head starts at zero
            nn.init.normal_(parameter, std=0.1)
    return network


NETWORKS: dict[str, Callable[[], Network]] = {
    "post-activation": lambda: network_of("resnet8v1", exits=3),
    "mobilenetv2": lambda: network_of("mobilenetv2", exits=4),
    "pruned": lambda: narrowed_by(network_of("resnet14", exits=3), 0.5),
    "in place": lambda: foreign("in-place", "first,end", InPlace),
    "tokens": lambda: foreign(
        "vit", "encoder.layers.encoder_layer_1,encoder.layers.encoder_layer_5,end", narrow_transformer, 32
    ),
    "torchvision": lambda: foreign("torchvision:squeezenet1_1", 3, size=32),
}


def in_batches(early: EarlyExit, images: Tensor, size: int) -> Exited[NDArray[Any]]:
    """The answers to all images, asked in batches."""
    parts = [early(batch) for batch in images.split(size)]
    return Exited(*(torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True)))


def check_same(found: Exited[NDArray[Any]], expected: Exited[NDArray[Any]]) -> None:
    assert np.array_equal(found.exits, expected.exits)
    assert np.array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    assert [array.dtype for array in found] == [np.int64, np.int64, np.float32]


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("size", [1, 7, COUNT])
def test_decisions_are_those_of_the_simulation(
    network: Network, images: Tensor, logits: NDArray[Any], policy: Policy, size: int, compact: bool
) -> None:
    expected = simulate(logits, policy)
    assert np.bincount(expected.exits).tolist() == [0, 43, 43, 42]
    check_same(in_batches(EarlyExit(network, policy, compact=compact), images, size), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_leaves_early(name: str, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_registered", {})
    network, images = NETWORKS[name](), images[:24]
    logits = logits_of(network, images)
    policy = even_policy(network, logits)
    expected = simulate(logits, policy)
    assert set(expected.exits) == set(range(1, policy.exits + 1))
    for size, compact in ((1, True), (24, True), (24, False)):
        check_same(in_batches(EarlyExit(network, policy, compact=compact), images, size), expected)


def test_certain_images_do_not_pass_a_threshold_that_nothing_passes(
    network: Network, images: Tensor, policy: Policy
) -> None:
    never = replace(policy, temperatures=(1e-6,) * 3, thresholds=(1.0, 1.0))  # all confidences are rounded to 1.0
    found = EarlyExit(network, never)(images)
    assert set(found.exits.tolist()) == {3}
    assert found.probabilities.max(dim=-1).values.eq(1).all()


def test_channels_last_stays_so_when_images_are_taken_out(
    network: Network, images: Tensor, logits: NDArray[Any], policy: Policy
) -> None:
    early = EarlyExit(network.to(memory_format=torch.channels_last), policy)
    seen = inputs_of(early.network)
    check_same(in_batches(early, images.contiguous(memory_format=torch.channels_last), COUNT), simulate(logits, policy))
    assert all(features.is_contiguous(memory_format=torch.channels_last) for features in seen[1] + seen[2])


def test_half_precision_decides_by_its_own_logits(images: Tensor) -> None:
    network = network_of("resnet8", exits=3).bfloat16()
    logits = logits_of(network, images.bfloat16())
    policy = even_policy(network, logits)
    check_same(in_batches(EarlyExit(network, policy, compact=False), images, COUNT), simulate(logits, policy))


def inputs_of(network: Network) -> list[list[Tensor]]:
    """The inputs of every block, in lists that fill when it is called."""
    seen: list[list[Tensor]] = [[] for _ in network.blocks]
    for block, inputs in zip(network.blocks, seen, strict=True):
        block.register_forward_pre_hook(lambda _, given, inputs=inputs: inputs.append(given[0]))
    return seen


def sizes(seen: list[list[Tensor]]) -> list[list[int]]:
    return [[len(features) for features in inputs] for inputs in seen]


@pytest.fixture
def sorted_images(images: Tensor, logits: NDArray[Any], policy: Policy) -> list[Tensor]:
    """The images by the exit they leave at."""
    exits = torch.from_numpy(simulate(logits, policy).exits)
    return [images[exits == number] for number in (1, 2, 3)]


def test_a_single_image_runs_no_block_behind_its_exit(
    network: Network, policy: Policy, sorted_images: list[Tensor]
) -> None:
    for number, images in enumerate(sorted_images, start=1):
        early = EarlyExit(network, policy)
        seen = inputs_of(early.network)
        early(images[:1])
        assert sizes(seen) == [[1]] * number + [[]] * (3 - number)


def test_a_batch_goes_on_with_those_that_have_not_left(
    network: Network, policy: Policy, sorted_images: list[Tensor]
) -> None:
    batch = torch.cat([images[:count] for images, count in zip(sorted_images, (1, 3, 4), strict=True)])
    for compact, expected in ((True, [8, 7, 4]), (8, [8, 7, 4]), (9, [8, 8, 8]), (False, [8, 8, 8])):
        early = EarlyExit(network, policy, compact=compact)
        seen = inputs_of(early.network)
        assert early(batch).exits.tolist() == [1] * 1 + [2] * 3 + [3] * 4
        assert sizes(seen) == [[size] for size in expected]


@pytest.mark.parametrize("compact", [True, False])
def test_it_stops_when_all_have_left(
    network: Network, policy: Policy, sorted_images: list[Tensor], compact: bool
) -> None:
    early = EarlyExit(network, policy, compact=compact)
    seen = inputs_of(early.network)
    early(torch.cat([sorted_images[0][:3], sorted_images[1][:2]]))
    assert sizes(seen) == [[5], [2 if compact else 5], []]


def test_the_mode_of_the_network_and_later_training_do_not_matter(
    images: Tensor, logits: NDArray[Any], policy: Policy
) -> None:
    network = network_of("resnet8", exits=3).train()
    early = EarlyExit(network, policy)
    before = network.state_dict()["blocks.0.norm1.running_mean"].clone()
    expected = simulate(logits, policy)
    check_same(in_batches(early, images, COUNT), expected)
    assert network.training
    assert torch.equal(network.state_dict()["blocks.0.norm1.running_mean"], before)
    torch.nn.init.zeros_(network.get_parameter("blocks.0.conv1.weight"))
    check_same(in_batches(early, images, COUNT), expected)


def test_what_does_not_fit_is_refused(network: Network, images: Tensor, policy: Policy) -> None:
    other = replace(policy, temperatures=policy.temperatures[:2], thresholds=policy.thresholds[:1])
    with pytest.raises(UsageError, match="for 2 exits, resnet8 has 3"):
        EarlyExit(network, other)
    with pytest.raises(UsageError, match=r"chosen for other weights \(abc\) than those of this resnet8"):
        EarlyExit(network, replace(policy, weights="abc"))
    with pytest.raises(UsageError, match="compact -1"):
        EarlyExit(network, policy, compact=-1)
    early = EarlyExit(network, policy)
    for wrong in (images[:0], images[:, :, 1:], images[0], images.expand(-1, 3, -1, -1)):
        with pytest.raises(UsageError, match=r"resnet8 takes \(N, 1, 8, 8\)"):
            early(wrong)
