"""Functions that `test_distributed.py` runs under torchrun. Arguments: function, class folders, output directory."""

import copy
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

import compress
from compress import Place
from compress.data import Labelled, open_dataset, split
from compress.errors import UsageError
from compress.networks import Network, spec_of
from compress.recipes import recipe_named
from compress.training import Method
from compress.training.batchnorm import synchronise
from compress.training.distributed import current_world, joined
from compress.training.loop import Training, fit

EPOCHS = 3


def steps(folder: Path, out: Path) -> None:
    """Five steps of MW-BP with three exits, one of them with a `BatchNorm1d`, and a frozen stem, in two precisions.

    Two classes are one, so that balanced class weights differ, and those of a process's share would be others.
    In fp32 a sum that is rounded otherwise switches a ReLU now and then, hence a rate as of a recipe's first steps.
    """
    dataset = open_dataset(f"folder:{folder}")
    dataset = replace(dataset, train=Labelled(images=dataset.train.images, labels=dataset.train.labels.clamp(max=8)))
    for dtype, rate in ((torch.float64, 0.15), (torch.float32, 0.001)):
        recipe = replace(recipe_named("quick"), epochs=1, batch_size=36, crop_padding=4, flip="random")
        recipe = replace(recipe, learning_rate=rate, class_weights="balanced")
        parts = split(dataset, validation=recipe.validation, calibration=recipe.calibration, seed=recipe.split_seed)
        spec = spec_of("resnet8", exits=3, input_shape=dataset.input_shape)
        torch.manual_seed(0)
        network = Network(spec)
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 10)]
        network.heads["1"] = nn.Sequential(*pooled)
        network.stem.requires_grad_(False)
        network.to(dtype).register_forward_pre_hook(lambda module, inputs: inputs[0].to(module.heads["1"][3].weight))
        objective = Method(name="mwbp").objective(spec)
        training = Training(network, parts, recipe, objective, augment=True, seed=0, precision="fp32")
        assert training.steps == 5
        assert training.class_weights is not None
        assert training.class_weights[8] < 0.6 < training.class_weights[0]
        fit(training, title="five steps")
        line = {key: training.history[0][key] for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")}
        file = f"rank{current_world().rank}-{str(dtype).removeprefix('torch.')}.pt"
        torch.save({"network": network.state_dict(), "line": line}, out / file)


def batch_norms() -> None:
    """Every form of batch norm on its share, against the plain one on the global batch."""
    world = current_world()
    forms: list[tuple[nn.Module, tuple[int, ...], torch.dtype]] = [
        (nn.BatchNorm2d(3), (6, 3, 4, 5), torch.float64),
        (nn.BatchNorm2d(3), (6, 3, 4, 5), torch.float32),
        (nn.BatchNorm2d(3, affine=False, momentum=None), (6, 3, 4, 5), torch.float64),
        (nn.BatchNorm2d(3, track_running_stats=False), (6, 3, 4, 5), torch.float64),
        (nn.BatchNorm1d(3), (2, 3), torch.float64),
        (nn.BatchNorm1d(3), (4, 3, 5), torch.float64),
        (nn.BatchNorm2d(3), (6, 3, 4, 5), torch.bfloat16),
    ]
    for form, shape, dtype in forms:
        plain = nn.Sequential(form)
        if dtype == torch.float64:
            plain.double()
        shared = copy.deepcopy(plain)
        synchronise(shared, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
        close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
        for _ in range(2):
            x = (10 + torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)
            slope = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
            whole, part = x.clone().requires_grad_(), world.share(x).clone().requires_grad_()
            expected, got = plain(whole), shared(part)
            assert got.dtype == dtype
            close(got, world.share(expected))
            expected.backward(slope)
            got.backward(world.share(slope))
            assert whole.grad is not None
            close(part.grad, world.share(whole.grad))
        for expected_parameter, other in zip(plain.parameters(), shared.parameters(), strict=True):
            assert expected_parameter.grad is not None
            assert other.grad is not None
            close(world.total(other.grad), expected_parameter.grad)
        close(shared.state_dict(), plain.state_dict())
        close(shared.eval()(x), plain.eval()(x))


def whole_and_again(folder: Path, out: Path) -> None:
    """Train twice, in two places; the numbers of the processes are written beside them, for a test that kills them."""
    (out / f"pid{current_world().rank}").write_text(str(os.getpid()))
    for place in ("whole", "again"):
        train(folder, out / place)


def everything(folder: Path, out: Path) -> None:
    """All that needs two processes, and fails at the end."""
    batch_norms()
    steps(folder, out)
    failures(folder, out)


def failures(folder: Path, out: Path) -> None:
    """What every process says to failures of one and of all; after that, one to end with."""
    rank, said = current_world().rank, []
    for seed, rate in ((rank, 0.1), (0, 1e30), (0, 1e30)):
        try:
            train(folder, out / "runs", seed=seed, rate=rate)
        except UsageError as error:
            said.append(str(error))
    (out / f"rank{rank}.txt").write_text("\n".join(said))
    raise UsageError("everything was tried")


def train(folder: Path, runs: Path, *, seed: int = 0, rate: float = 0.15) -> None:
    compress.train(
        "resnet8",
        open_dataset(f"folder:{folder}"),
        method="mwbp",
        exits=2,
        recipe=replace(recipe_named("quick", epochs=EPOCHS), learning_rate=rate),
        seed=seed,
        place=Place(precision="fp32", runs=runs),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        with joined():
            globals()[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    except UsageError as error:
        sys.exit(f"worker: {error}")
