"""Losses are compared on validation images, or on a few training images where none are held out."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from baselines.scoring_data import ScoringData
from compress.data import Augmentation, Dataset, Part, split
from compress.data.dataset import Labelled
from compress.networks import create, spec_of
from compress.training.objectives import bp


def scoring_data_of(dataset: Dataset, validation: float, seed: int = 0) -> ScoringData:
    parts = split(dataset, validation=validation, calibration=0.0, seed=0)
    objective = bp(spec_of("resnet8", input_shape=dataset.input_shape, classes=len(dataset.classes)))
    return ScoringData.of(parts, objective, label_smoothing=0.0, seed=seed)


def images_of(part: Part) -> list[bytes]:
    return [image.numpy().tobytes() for image in cast(Labelled, part).images]


def test_validation_images_are_judged_on_where_there_are_any(tiny: Dataset) -> None:
    parts = split(tiny, validation=0.1, calibration=0.0, seed=0)
    assert images_of(scoring_data_of(tiny, 0.1).judging) == images_of(parts.validation)


def test_else_a_tenth_of_the_training_images_is_drawn_by_the_seed(tiny: Dataset) -> None:
    def numbers(seed: int) -> list[int]:
        scoring = scoring_data_of(tiny, 0.0, seed)
        return [images_of(scoring.train).index(image) for image in images_of(scoring.judging)]

    assert len(set(numbers(0))) == 200 / 10
    assert numbers(0) == numbers(0) != numbers(1)


def test_statistics_are_of_images_augmented_as_in_the_training(tiny: Dataset) -> None:
    parts = split(tiny, validation=0.1, calibration=0.0, seed=0)
    network = create("resnet8", input_shape=tiny.input_shape)
    augmentation = Augmentation(padding=4, flip="random", seed=1)

    def statistics(scoring: ScoringData) -> list[Tensor]:
        scoring.reestimate(network)
        return [buffer.clone() for name, buffer in network.named_buffers() if "running" in name]

    drawn = augmentation.draw(0, len(parts.train))
    images = drawn(cast(Labelled, parts.train).images, torch.arange(len(parts.train)))
    changed = replace(parts, train=Labelled(images=images, labels=parts.train.labels))
    objective = bp(network.spec)
    expected = statistics(ScoringData.of(changed, objective, 0.0, 0))
    assert all(map(torch.equal, statistics(ScoringData.of(parts, objective, 0.0, 0, augmentation)), expected))
    assert not any(map(torch.equal, statistics(ScoringData.of(parts, objective, 0.0, 0)), expected))
