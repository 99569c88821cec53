"""Re-estimation of batch norm's statistics: they are those of the training images, and nothing else changes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from baselines.channels import remove_channels
from baselines.coupling import Coupling
from compress import Place
from compress.data import (
    Augmentation,
    Dataset,
    Labelled,
    Normalisation,
    ResizedCrop,
    measure,
    normalise,
    pad_crop_flip,
    split,
)
from compress.network_cost import cost
from compress.networks import Network, create
from compress.networks.foreign import zoo
from compress.recipes import Recipe
from compress.runs import load
from compress.training import train
from compress.training.batchnorm import reestimate
from compress.training.evaluation import cross_entropies, predict
from compress.training.loop import Training, fit
from compress.training.objectives import bp
from compress.training.plan import augmentation_by


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched(Labelled):
    """A part that remembers which batches were asked for."""

    seen: list[Tensor] = field(default_factory=list)

    def batches(self, indices: Iterable[Tensor], crop: ResizedCrop | None = None) -> Iterator[Tensor]:
        """Yield what the part yields."""
        assert crop is None
        for chosen in indices:
            self.seen.append(chosen)
            yield self.images[chosen]


class Dropping(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Dropout(0.5), nn.BatchNorm2d(8), nn.ReLU())
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


class Plain(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
        self.classifier = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


@pytest.fixture
def normalisation(tiny: Dataset) -> Normalisation:
    return measure(tiny.train.sample())


def statistics(network: nn.Module) -> list[Tensor]:
    return [buffer.clone() for name, buffer in network.named_buffers() if "running" in name]


def test_statistics_are_those_of_the_images_and_dropout_stays_off(
    tiny: Dataset, normalisation: Normalisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_registered", {"dropping": Dropping})
    network = create("dropping", input_shape=tiny.input_shape).eval()
    convolution = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        features = convolution(normalise(tiny.train.images, normalisation))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert reestimate(network, tiny.train, normalisation) == cost(network).macs * len(tiny.train)
    assert torch.equal(torch.rand(1), expected)
    mean, variance = statistics(network)
    torch.testing.assert_close(mean, features.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variance, features.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_modes_momenta_and_weights_stay(tiny: Dataset, normalisation: Normalisation) -> None:
    network = create("resnet8", input_shape=tiny.input_shape).eval()
    network.blocks[1].train()
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    layers[0].momentum = 0.3
    modes, momenta = [module.training for module in network.modules()], [layer.momentum for layer in layers]
    weights, before = [parameter.clone() for parameter in network.parameters()], statistics(network)
    reestimate(network, tiny.train, normalisation)
    assert [module.training for module in network.modules()] == modes
    assert [layer.momentum for layer in layers] == momenta
    assert all(map(torch.equal, network.parameters(), weights))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(map(torch.equal, statistics(network), before))


def test_a_fixed_number_of_images_of_all_classes_in_batches_of_one_size(
    tiny: Dataset, normalisation: Normalisation
) -> None:
    by_class = tiny.train.subset(tiny.train.labels.argsort(stable=True))
    part = Watched(images=by_class.images, labels=by_class.labels)
    network = create("resnet8", input_shape=tiny.input_shape)
    assert reestimate(network, part, normalisation, images=101, batch=50) == cost(network).macs * 101
    assert [len(chosen) for chosen in part.seen] == [34, 34, 33]  # a last batch of one would weigh as much as fifty
    drawn = torch.cat(part.seen)
    assert len(drawn.unique()) == 101
    assert part.labels[drawn[:34]].unique().tolist() == list(range(10))
    first = statistics(network)
    reestimate(network, part, normalisation, images=101, batch=50)
    assert all(map(torch.equal, statistics(network), first))


def test_a_network_without_batch_norm_costs_nothing(
    tiny: Dataset, normalisation: Normalisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_registered", {"plain": Plain})
    network = create("plain", input_shape=tiny.input_shape)
    part = Watched(images=tiny.train.images, labels=tiny.train.labels)
    assert reestimate(network, part, normalisation) == 0
    assert not part.seen


def test_it_lifts_a_pruned_network(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    """Statistics of the network before pruning fit no more: what is measured right after it says little."""
    recipe = replace(brief, epochs=8, validation=0.3)
    network = load(train("resnet8", tiny, recipe=recipe, place=Place(runs=tmp_path)))
    parts = split(tiny, validation=0.3, calibration=recipe.calibration, seed=recipe.split_seed)

    def loss(network: Network) -> float:
        logits = predict(network, parts.validation, parts.normalisation)
        return (cross_entropies(logits, parts.validation.labels) or [])[-1]

    reestimate(network, parts.train, parts.normalisation)  # so that its own training is not what is mended
    pruned = remove_channels(network, {group: range(8) for group in range(3)})
    left = [group.units for group in Coupling(pruned).groups]
    assert sum(left) == sum(group.units for group in Coupling(network).groups) - 24
    before = loss(pruned)
    reestimate(pruned, parts.train, parts.normalisation)
    assert loss(network) < loss(pruned) < before - 0.1


def test_statistics_of_augmented_images_are_those_of_padded_crops(tiny: Dataset, normalisation: Normalisation) -> None:
    network = create("resnet8", input_shape=tiny.input_shape).eval()
    drawn = Augmentation(padding=4, flip="random", seed=1).draw(2, len(tiny.train))
    images = pad_crop_flip(tiny.train.images, shifts=drawn.shifts, flips=drawn.flips, padding=4)
    reestimate(network, Labelled(images=images, labels=tiny.train.labels), normalisation)
    expected = statistics(network)
    reestimate(network, tiny.train, normalisation)
    assert not any(map(torch.equal, statistics(network), expected))
    reestimate(network, tiny.train, normalisation, augmented=drawn)
    assert all(map(torch.equal, statistics(network), expected))


def test_averaged_weights_have_the_statistics_of_what_they_were_trained_on(tiny: Dataset, brief: Recipe) -> None:
    """Those of whole images cost several points of accuracy where training sees padded crops."""
    recipe = brief.changed(epochs=2, averaging="ema", crop_padding=4)
    parts = split(tiny, validation=0.0, calibration=0.0, seed=0)
    network = create("resnet8", input_shape=tiny.input_shape)
    training = Training(network, parts, recipe, bp(network.spec), augment=True, seed=3, precision="fp32")
    fit(training, title="averaged")
    found = [value.clone() for value in statistics(training.network)]
    drawn = augmentation_by(recipe, 3, augmentable=True).draw(2, len(parts.train))
    reestimate(training.network, parts.train, parts.normalisation, images=None, augmented=drawn)
    assert all(map(torch.equal, statistics(training.network), found))
    reestimate(training.network, parts.train, parts.normalisation, images=None)
    assert not any(map(torch.equal, statistics(training.network), found))
