"""Speed changes nothing: the training loop's first losses are those of a plain loop without any of its means.

The plain one: NCHW, nothing in place, parameters updated one by one, an image at a time normalised in float.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compress.data import Dataset, split
from compress.errors import UsageError
from compress.networks import Network, create, cut
from compress.networks.blocks import PreActivationBlock
from compress.recipes import Recipe, recipe_named
from compress.training import Method
from compress.training.compiled import compiled
from compress.training.hooks import Options
from compress.training.loop import Training

Batches = Iterable[tuple[Tensor, Tensor]]
STEPS = 4


def plain_logits(network: Network, images: Tensor) -> Iterator[Tensor]:
    """What `Network.forward` gives for a pre-activation ResNet, written out."""
    features = network.stem(images)
    for number, block in enumerate(network.blocks, start=1):
        assert isinstance(block, PreActivationBlock)
        activated = functional.relu(block.norm1(features))
        branch = block.conv2(functional.relu(block.norm2(block.conv1(activated))))
        features = branch + block.shortcut(activated if block.opens_stage else features)
        if str(number) in network.heads:
            head = network.heads[str(number)]
            assert isinstance(head, torch.nn.Sequential)
            norm, classifier = head[0], head[-1]
            yield classifier(functional.relu(norm(features)).mean(dim=(2, 3)))


def plain_batches(training: Training) -> Batches:
    """The first epoch's batches, image by image."""
    parts = training.split
    train, padding = parts.train, training.augmentation.padding
    order = training.augmentation.order(0, len(train))
    shifts, flips = training.augmentation.epoch(0, len(train))
    height, width = train.images.shape[2:]
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (parts.normalisation.mean, parts.normalisation.std))
    for chosen in order[: training.steps * training.batch_size].split(training.batch_size):
        images = []
        for index in chosen.tolist():
            top, left = shifts[index].tolist()
            padded = functional.pad(train.images[index], (padding,) * 4)
            image = padded[:, top : top + height, left : left + width]
            images.append(((image.flip(2) if flips[index] else image) / 255 - mean) / std)
        yield torch.stack(images), train.labels[chosen]


def plain_losses(network: Network, batches: Batches, method: str, recipe: Recipe) -> list[list[float]]:
    """Every exit's loss in the first steps."""
    objective = Method(name=method).objective(network.spec)
    groups = objective.parameter_groups(network, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
    optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, foreach=False, fused=False)
    history = []
    for images, labels in batches:
        losses = [functional.cross_entropy(logits, labels) for logits in plain_logits(network, images)]
        optimizer.zero_grad()
        for loss, weight in zip(losses, objective.loss_weights, strict=True):
            (weight * loss).backward(retain_graph=True)
        optimizer.step()
        history.append([float(loss.detach()) for loss in losses])
    return history


def training_of(network: Network, tiny: Dataset, method: Method, *, compile: bool = False) -> Training:
    recipe = replace(recipe_named("paper"), epochs=100, batch_size=32)  # no drop of the rate in these steps
    parts = split(tiny, validation=0.0, calibration=0.0, seed=0)
    objective = method.objective(network.spec)
    return Training(
        network, parts, recipe, objective, augment=True, seed=0, precision="fp32", options=Options(compile=compile)
    )


def test_batches_are_those_made_image_by_image(tiny: Dataset) -> None:
    training = training_of(create("resnet8", input_shape=tiny.input_shape), tiny, Method(name="bp"))
    assert training.steps == 6
    for (images, labels), (expected, same) in zip(training._batches(), plain_batches(training), strict=True):
        torch.testing.assert_close(images, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(labels, same)


@pytest.mark.parametrize(("method", "exits"), [("bp", 1), ("mwbp", 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.float64, 1e-9)])
def test_the_first_losses_are_those_of_a_plain_loop(
    dtype: torch.dtype, tolerance: float, method: str, exits: int, tiny: Dataset
) -> None:
    """In fp32 the first step agrees to 1e-6; a rate of 0.1 then takes rounding errors a hundredfold in three steps."""
    torch.manual_seed(0)
    network = create("resnet8", exits=exits, input_shape=tiny.input_shape).to(dtype).train()
    plain = copy.deepcopy(network)
    training = training_of(network, tiny, Method(name=method))
    batches = [(images.to(dtype), labels) for images, labels in islice(training._batches(), STEPS)]
    expected = plain_losses(
        plain, [(images.contiguous(), labels) for images, labels in batches], method, training.recipe
    )
    got = [training.step(*batch, done=done).tolist() for done, batch in enumerate(batches)]
    torch.testing.assert_close(got[0], expected[0], rtol=2e-6, atol=0)
    torch.testing.assert_close(torch.tensor(got), torch.tensor(expected), rtol=tolerance, atol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile looks at it
def test_compiled_blocks_compute_the_same_and_leave_the_network_as_it_was(
    tiny: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    whole = create("resnet8", exits=3, input_shape=tiny.input_shape)
    network = cut(whole, 1).train()  # one block, as compiling takes long
    eager, names = copy.deepcopy(network), list(network.state_dict())
    twin = training_of(network, tiny, Method(name="bp"), compile=True).model
    assert "does not work" not in capsys.readouterr().err
    assert twin is not network
    images = torch.randn(16, *tiny.input_shape)
    expected, got = (
        torch.autograd.grad(model(images)[0].square().mean(), list(model.parameters())) for model in (eager, twin)
    )
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)
    assert list(network.state_dict()) == names
    assert network.blocks[0].__class__ is PreActivationBlock


def test_without_a_compiler_training_goes_on_after_one_line(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # else an earlier compilation would do
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    torch._dynamo.reset()
    network = create("resnet8", input_shape=tiny.input_shape)
    assert compiled(network) is network
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("torch.compile does not work here")


def test_compiled_blocks_do_not_go_with_the_sequential_update(tiny: Dataset) -> None:
    network = create("resnet8", exits=2, input_shape=tiny.input_shape)
    with pytest.raises(UsageError, match="update sequential"):
        training_of(network, tiny, Method(update="sequential"), compile=True)
