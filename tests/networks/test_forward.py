"""Logits against a second implementation written from the papers, and the initial weights."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compress.networks import Network, create

Weights = dict[str, Tensor]


def by_hand(
    weights: Weights, images: Tensor, *, per_stage: int, exits: list[int], form: str, train: bool
) -> list[Tensor]:
    """Logits of every exit, from the named weights: batch norm spelt out, blocks as the papers have them."""

    def norm(x: Tensor, name: str) -> Tensor:
        if train:
            mean = x.mean(dim=(0, 2, 3))
            variance = ((x - mean[:, None, None]) ** 2).mean(dim=(0, 2, 3))
        else:
            mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        scale = weights[f"{name}.weight"] / (variance + 1e-5).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + weights[f"{name}.bias"][:, None, None]

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        assert f"{name}.bias" not in weights
        return functional.conv2d(x, kernel, stride=stride, padding=1 if kernel.shape[-1] == 3 else 0)

    def relu(x: Tensor) -> Tensor:
        return x * (x > 0)

    def full_pre_activation(x: Tensor, b: int) -> Tensor:
        name, stride = f"blocks.{b}", 2 if b in (per_stage, 2 * per_stage) else 1
        activated = relu(norm(x, f"{name}.norm1"))
        branch = conv(relu(norm(conv(activated, f"{name}.conv1", stride), f"{name}.norm2")), f"{name}.conv2")
        passed = activated if b % per_stage == 0 else x  # the first block of every stage, the first stage's too
        return branch + (conv(passed, f"{name}.shortcut", stride) if stride == 2 else passed)

    def original(x: Tensor, b: int) -> Tensor:
        name, stride = f"blocks.{b}", 2 if b in (per_stage, 2 * per_stage) else 1
        branch = relu(norm(conv(x, f"{name}.conv1", stride), f"{name}.norm1"))
        branch = norm(conv(branch, f"{name}.conv2"), f"{name}.norm2")
        passed = norm(conv(x, f"{name}.shortcut.0", stride), f"{name}.shortcut.1") if stride == 2 else x
        return relu(branch + passed)

    features, logits = conv(images, "stem.0"), []
    if form == "v1":
        features = relu(norm(features, "stem.1"))
    for b in range(3 * per_stage):
        features = original(features, b) if form == "v1" else full_pre_activation(features, b)
        if b + 1 in exits:
            head = f"heads.{b + 1}"
            activated = features if form == "v1" else relu(norm(features, f"{head}.0"))
            linear = f"{head}.2" if form == "v1" else f"{head}.4"
            logits.append(activated.mean(dim=(2, 3)) @ weights[f"{linear}.weight"].T + weights[f"{linear}.bias"])
    return logits


def randomised(arch: str, exits: list[int], dtype: torch.dtype) -> Network:
    torch.manual_seed(3)
    network = create(arch, exits=exits, input_shape=(3, 11, 8))
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 3)
        elif name.endswith("running_mean") or name.endswith("bias"):
            tensor.normal_(std=0.3)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    return network.to(dtype)


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("form", ["", "v1"])
@pytest.mark.parametrize(("per_stage", "exits"), [(1, [1, 2, 3]), (3, [2, 4, 7, 9])])
def test_logits_are_those_of_an_independent_implementation(
    per_stage: int, exits: list[int], form: str, dtype: torch.dtype, tolerance: float, train: bool
) -> None:
    network = randomised(f"resnet{6 * per_stage + 2}{form}", exits, dtype).train(train)
    images = torch.randn(5, 3, 11, 8, dtype=dtype)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = by_hand(weights, images, per_stage=per_stage, exits=exits, form=form, train=train)
        logits = network(images)
    for exit, other in zip(logits, expected, strict=True):
        torch.testing.assert_close(exit, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("block", [0, 3, 6])
def test_each_stages_first_shortcut_sees_the_activated_input_and_no_other_does(block: int) -> None:
    network = randomised("resnet20", [9], torch.float64).eval()
    state = network.state_dict()
    for number in (block, block + 1):  # with the branch silent a block is its shortcut
        state[f"blocks.{number}.conv2.weight"].zero_()
    x = torch.randn(2, state[f"blocks.{block}.norm1.weight"].numel(), 8, 8, dtype=torch.float64)
    activated = torch.relu(network.blocks[block].get_submodule("norm1")(x))
    first = network.blocks[block](x)
    assert torch.equal(first, network.blocks[block].get_submodule("shortcut")(activated))
    assert torch.equal(network.blocks[block + 1](first), first), "an inner block passes its input on as it is"
    assert not torch.allclose(activated, x)


def test_a_forward_leaves_the_images_alone() -> None:
    for arch in ("resnet8", "resnet8v1"):
        network, images = create(arch, exits=3), torch.randn(2, 3, 8, 8)
        before = images.clone()
        network(images)
        assert torch.equal(images, before)


@pytest.mark.parametrize("arch", ["resnet56", "resnet56v1"])
def test_convolutions_begin_normal_with_the_authors_deviation(arch: str) -> None:
    torch.manual_seed(0)
    network = create(arch, exits=5)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 2 * 27 + 2
    scaled = []
    for module in convolutions:
        weight = module.weight.detach()
        out, _, height, width = weight.shape
        assert module.bias is None
        scaled.append(weight.flatten() / math.sqrt(2 / (height * width * out)))
        number = weight.numel()
        assert abs(scaled[-1].std().item() - 1) < 5 / math.sqrt(2 * number)
        assert abs(scaled[-1].mean().item()) < 5 / math.sqrt(number)
    everything = torch.cat(scaled)
    assert everything.pow(4).mean().item() == pytest.approx(3, abs=0.05), "normal, neither uniform nor truncated"
    assert everything.abs().max() > 4


@pytest.mark.parametrize("arch", ["resnet20", "resnet20v1"])
def test_batch_norms_begin_neutral_and_linear_biases_at_zero(arch: str) -> None:
    network = create(arch, exits=3)
    linears = 0
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
            assert module.running_mean is not None
            assert module.running_mean.eq(0).all()
        if isinstance(module, torch.nn.Linear):
            linears += 1
            assert module.bias.eq(0).all()
            assert module.weight.std() > 0
    assert linears == 3
