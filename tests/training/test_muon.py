"""Muon for convolutions: kernels as matrices by torch's Muon, the rest by SGD; saved and resumed exactly."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import Dataset, Place, UsageError, train
from compress.data import split
from compress.networks import Network, create, initialised, spec_of
from compress.recipes import Recipe, quick
from compress.training import Method
from compress.training.loop import Training, fit
from compress.training.muon import MOMENTUM, SHARE, SimultaneousMuon
from compress.training.updates import DeviceRates, Simultaneous

NAMES = ("blocks.0.conv1.weight", "stem.0.weight")  # a kernel by Muon, and one by SGD
RECIPE = replace(quick(), epochs=3, batch_size=60, optimizer="muon")


def network() -> Network:
    torch.manual_seed(0)
    return create("resnet8", exits=2, input_shape=(1, 8, 8)).to(memory_format=torch.channels_last)


def losses(of: Network) -> torch.Tensor:
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    logits = of(images.contiguous(memory_format=torch.channels_last))
    return torch.stack([torch.nn.functional.cross_entropy(exit, torch.arange(8)) for exit in logits])


def test_kernels_move_as_torchs_muon_moves_matrices_and_the_rest_by_sgd() -> None:
    ours, theirs = network(), network()
    objective = Method(name="deep-supervision").objective(ours.spec)
    update = SimultaneousMuon(objective, ours, RECIPE)
    hidden = {name for name, weight in theirs.named_parameters() if weight.dim() == 4 and not name.startswith("stem")}
    named = dict(theirs.named_parameters())
    matrices = {
        name: torch.nn.Parameter(named[name].detach().permute(0, 2, 3, 1).reshape(len(named[name]), -1))
        for name in hidden
    }
    rate = SHARE * RECIPE.learning_rate
    decay = RECIPE.learning_rate * RECIPE.weight_decay / (1 - RECIPE.momentum) / rate
    muon = torch.optim.Muon([*matrices.values()], lr=rate, weight_decay=decay, momentum=MOMENTUM)
    sgd = torch.optim.SGD(
        [weight for name, weight in named.items() if name not in hidden],
        lr=RECIPE.learning_rate,
        momentum=RECIPE.momentum,
        weight_decay=RECIPE.weight_decay,
        nesterov=True,
    )
    for _ in range(3):
        update.step(losses(ours))
        theirs.zero_grad()
        losses(theirs).sum().backward()
        for name, matrix in matrices.items():
            gradient = named[name].grad
            assert gradient is not None
            matrix.grad = gradient.permute(0, 2, 3, 1).reshape(matrix.shape)
        muon.step()
        sgd.step()
        with torch.no_grad():
            for name, matrix in matrices.items():
                out, inputs, height, width = named[name].shape
                named[name].copy_(matrix.view(out, height, width, inputs).permute(0, 3, 1, 2))
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, named[name], rtol=1e-4, atol=1e-5)


def test_an_exits_weight_in_the_loss_does_not_change_the_step_of_its_kernels() -> None:
    steps = []
    for weight in (0.1, 1.0):
        trained = network()
        objective = Method(name="mwbp-uniform-decay", auxiliary_weight=weight).objective(trained.spec)
        assert objective.loss_weights == (weight, 1.0)
        SimultaneousMuon(objective, trained, RECIPE).step(losses(trained)[:1].repeat(2) * torch.tensor([1.0, 0.0]))
        steps.append([(trained.get_parameter(name) - network().get_parameter(name)).detach() for name in NAMES])
    for (kernel, stem), (other_kernel, other_stem) in pairwise(steps):
        torch.testing.assert_close(kernel, other_kernel, rtol=0.02, atol=1e-4)
        assert stem.norm() < 0.5 * other_stem.norm()  # by SGD, whose step does depend on it


def test_weight_decay_is_that_of_the_highest_rates_where_rates_are_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where the optimiser of the rest reads its rates from tensors."""

    def decays() -> list[float]:
        trained = network()
        update = SimultaneousMuon(Method(name="mwbp").objective(trained.spec), trained, RECIPE)
        return [group["weight_decay"] for group in update.muon.param_groups]

    expected, plain = decays(), Simultaneous.__init__

    def on_a_device(self: Simultaneous, *args: Any) -> None:
        plain(self, *args)
        self.rates = DeviceRates(self.optimizer, torch.device("cpu"))

    monkeypatch.setattr(Simultaneous, "__init__", on_a_device)
    found = decays()
    assert {type(decay) for decay in found} == {float}
    assert found == expected


def training_of(tiny: Dataset, recipe: Recipe) -> Training:
    spec = spec_of("resnet8", exits=2, input_shape=tiny.input_shape)
    parts = split(tiny, validation=recipe.validation, calibration=recipe.calibration, seed=0)
    objective = Method().objective(spec)
    return Training(initialised(spec, 0), parts, recipe, objective, augment=True, seed=0, precision="fp32")


def test_a_resumed_training_ends_with_the_same_weights_bit_for_bit(tiny: Dataset, tmp_path: Path) -> None:
    def die_in_the_second_epoch(training: Training) -> None:
        if training.epochs_done == 2:
            raise KeyError

    whole, resumed = training_of(tiny, RECIPE), training_of(tiny, RECIPE)
    fit(whole, title="whole")
    with pytest.raises(KeyError):
        fit(training_of(tiny, RECIPE), title="part", checkpoint=tmp_path, on_epoch=die_in_the_second_epoch)
    fit(resumed, title="resumed", checkpoint=tmp_path)
    for own, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(own, other)
    assert whole.history[-1]["train_loss"][-1] < whole.history[0]["train_loss"][-1]


def test_of_somebody_elses_net_the_first_convolution_goes_by_sgd_too() -> None:
    net = create("torchvision:resnet18", classes=10).to(memory_format=torch.channels_last)
    update = SimultaneousMuon(Method(name="bp").objective(net.spec), net, RECIPE)
    moved = {id(kernel) for kernel, _ in update.kernels}
    kernels = [module.weight for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [id(kernel) in moved for kernel in kernels] == [False] + [True] * (len(kernels) - 1)


def test_what_needs_sgd_is_refused(tiny: Dataset, tmp_path: Path) -> None:
    place = Place(device="cpu", precision="fp32", runs=tmp_path)
    for method, what in (
        (Method(update="sequential"), "update sequential needs sgd"),
        (Method(gradient_equilibrium=True), "gradient-equilibrium needs sgd"),
        (Method(name="frozen-trunk"), "frozen-trunk trains heads alone, and these have no convolution"),
    ):
        with pytest.raises(UsageError, match=what):
            train("resnet8", tiny, method=method, exits=2, recipe=RECIPE, place=place)
    assert not any(tmp_path.iterdir())  # no trunk was trained before
    assert "optimizer" not in quick().to_json()
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
