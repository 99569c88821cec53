"""The loops that ours is compared with: they train, in the precision and the way that they stand for."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed.airbench_loop import BIAS_FACTOR, AirbenchLoop, cropped, triangle
from benchmarks.speed.speed_setup import Setup
from benchmarks.speed.usual_trainer import UsualTrainer

STEPS = 24


@pytest.fixture
def setup() -> Setup:
    """Twenty images, in batches of all of them, whose brightness is their class."""
    setup = Setup(arch="resnet8", exits=1, device=torch.device("cpu"), precision="bf16", batch_size=20, steps=1)
    train = setup.split.train
    train.images.copy_((25 * train.labels).view(-1, 1, 1, 1))
    return setup


def airbench(setup: Setup, dtype: torch.dtype) -> AirbenchLoop:
    torch.manual_seed(0)
    return AirbenchLoop(setup.network(), setup.split, setup.recipe(1), dtype=dtype, steps=STEPS)


def test_airbenchs_loop_learns_in_half_precision_and_batch_norm_stays_in_fp32(setup: Setup) -> None:
    loop = airbench(setup, torch.bfloat16)
    first, last = loop.train(1), loop.train(STEPS - 1)
    assert last < 0.75 * first
    for module in loop.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert {value.dtype for value in module.state_dict().values()} == {torch.float32, torch.int64}
        elif isinstance(module, nn.Conv2d | nn.Linear):
            assert {value.dtype for value in module.parameters()} == {torch.bfloat16}
    biases, others = loop.optimizer.param_groups
    assert biases["lr"] == pytest.approx(BIAS_FACTOR * others["lr"])
    assert len(biases["params"]) == sum(isinstance(module, nn.BatchNorm2d) for module in loop.network.modules())
    assert len(biases["params"]) + len(others["params"]) == len([*loop.network.parameters()])


def test_slow_weights_are_mixed_in_every_fifth_step(setup: Setup) -> None:
    loop = airbench(setup, torch.float32)
    name = next(iter(loop.slow))
    before = loop.slow[name].clone()
    loop.train(4)
    assert torch.equal(loop.slow[name], before)
    loop.train(1)
    assert not torch.equal(loop.slow[name], before)
    assert torch.equal(loop.slow[name], loop.network.state_dict()[name])


def test_crops_are_windows_of_their_images_and_all_windows_come() -> None:
    padded = torch.arange(36.0).view(1, 1, 6, 6).expand(400, 2, -1, -1)
    crops = cropped(padded, 1)
    corners = {int(crop[0, 0, 0]) for crop in crops}
    assert corners == {row * 6 + column for row in range(3) for column in range(3)}
    for crop in crops:
        row, column = divmod(int(crop[0, 0, 0]), 6)
        assert torch.equal(crop, padded[0, :, row : row + 4, column : column + 4])


def test_rates_rise_then_fall() -> None:
    assert [triangle(progress) for progress in (0.0, 0.23, 1.0, 2.0)] == pytest.approx([0.2, 1.0, 0.07, 0.07])
    assert triangle(0.1) < triangle(0.2) > triangle(0.9)


def test_the_usual_trainer_learns_channels_last_under_autocast(setup: Setup) -> None:
    torch.manual_seed(0)
    usual = UsualTrainer(setup.network(), setup.split, setup.recipe(1), precision="bf16", workers=0, steps=STEPS)
    seen: list[tuple[Tensor, Tensor]] = []
    convolution = next(module for module in usual.network.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    first, last = usual.train(2), usual.train(STEPS - 2)
    assert last < first
    images, output = seen[0]
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert output.dtype == torch.bfloat16
    assert usual.optimizer.defaults["fused"]
