"""The split: disjoint, exhaustive, in proportion, and the same every time."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data import Dataset, Labelled, Normalisation, Part, Split, measure, open_dataset, split
from compress.errors import UsageError


def numbered(labels: torch.Tensor, *, classes: int) -> Dataset:
    """Return a data set whose training images carry their own number in their four pixels."""
    number = torch.arange(len(labels))
    pixels = torch.stack([number % 256, number // 256, labels, torch.zeros_like(number)], dim=1)
    train = Labelled(images=pixels.to(torch.uint8).view(-1, 1, 2, 2), labels=labels)
    test = Labelled(images=torch.full((1, 1, 2, 2), 255, dtype=torch.uint8), labels=torch.zeros(1, dtype=torch.int64))
    return Dataset(name="numbered", copy="test", classes=tuple(map(str, range(classes))), train=train, test=test)


def numbers(part: Part) -> list[int]:
    pixels = part.images.view(-1, 4).long()
    assert torch.equal(pixels[:, 2], part.labels)
    return (pixels[:, 0] + 256 * pixels[:, 1]).tolist()


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(3, 40), min_size=1, max_size=6),
    validation=st.floats(0, 0.25),  # of four images more could be rounded up to two in both parts, and none be left
    calibration=st.floats(0, 0.25),
    seed=st.integers(0, 2**32),
)
def test_split_is_disjoint_exhaustive_stratified_and_deterministic(
    counts: list[int], validation: float, calibration: float, seed: int
) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    data = numbered(labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))], classes=6)
    result = split(data, validation=validation, calibration=calibration, seed=seed)

    parts = {"train": result.train, "validation": result.validation, "calibration": result.calibration}
    assert sorted(n for part in parts.values() for n in numbers(part)) == list(range(len(labels)))
    for part, fraction in (("validation", validation), ("calibration", calibration)):
        assert abs(len(parts[part]) - fraction * len(labels)) <= 0.5 + 1e-9
        by_class = parts[part].labels.bincount(minlength=len(counts)).numpy()
        assert np.all(np.abs(by_class - fraction * np.array(counts)) <= 1 + 1e-9)

    torch.manual_seed(torch.initial_seed() + 1)
    again = split(data, validation=validation, calibration=calibration, seed=seed)
    assert numbers(again.train) == numbers(result.train)
    assert numbers(again.calibration) == numbers(result.calibration)


def test_a_class_that_rounding_would_leave_without_training_images_is_refused() -> None:
    labels = torch.arange(5).repeat_interleave(torch.tensor([3, 3, 3, 7, 4]))
    with pytest.raises(UsageError, match=r"leaves class '4' \(4 images\) without training images"):
        split(numbered(labels, classes=6), validation=0.28125, calibration=0.28125, seed=0)


def test_another_seed_holds_out_other_images() -> None:
    data = numbered(torch.arange(200) % 2, classes=2)
    first, second = (split(data, validation=0.2, calibration=0, seed=seed) for seed in (0, 1))
    assert numbers(first.validation) != numbers(second.validation)


def test_split_does_not_touch_the_global_generators() -> None:
    torch_state, numpy_state = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    split(numbered(torch.arange(20) % 2, classes=2), validation=0.2, calibration=0.2, seed=3)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert pickle.dumps(np.random.get_state()) == numpy_state


def test_the_bundled_set_is_split_in_exact_proportion() -> None:
    data = open_dataset("fashion-mini")
    result = split(data, validation=0.05, calibration=0.05, seed=0)
    assert result.train.labels.bincount().tolist() == [540] * 10
    assert result.validation.labels.bincount().tolist() == [30] * 10
    assert result.calibration.labels.bincount().tolist() == [30] * 10
    assert result.test is data.test


def test_the_sets_own_validation_images_are_used() -> None:
    own = Labelled(images=torch.full((2, 1, 2, 2), 9, dtype=torch.uint8), labels=torch.tensor([0, 1]))
    data = dataclasses.replace(numbered(torch.arange(40) % 2, classes=2), validation=own)
    result = split(data, validation=0.25, calibration=0.25, seed=0)
    assert result.validation is own
    assert (len(result.train), len(result.calibration)) == (30, 10)


def test_normalisation_is_published_or_measured_on_the_training_part() -> None:
    data = numbered(torch.arange(40) % 2, classes=2)
    result: Split = split(data, validation=0.25, calibration=0.25, seed=0)
    assert result.normalisation == measure([result.train.images]) != measure([data.train.images])
    published = Normalisation(mean=(0.5,), std=(0.25,))
    data = dataclasses.replace(data, normalisation=published)
    assert split(data, validation=0, calibration=0, seed=0).normalisation == published


@pytest.mark.parametrize(
    ("validation", "calibration"), [(-0.1, 0.0), (0.0, -0.1), (1.0, 0.0), (0.5, 0.5), (float("nan"), 0.0)]
)
def test_fractions_that_cannot_be(validation: float, calibration: float) -> None:
    with pytest.raises(UsageError, match=f"^validation {validation} and calibration {calibration} must be fractions"):
        split(numbered(torch.arange(10) % 2, classes=2), validation=validation, calibration=calibration, seed=0)


def test_a_class_is_never_left_without_training_images() -> None:
    labels = torch.tensor([0] * 20 + [1])
    with pytest.raises(UsageError, match=r"leaves class '1' \(1 images\) without training images: it needs more"):
        split(numbered(labels, classes=2), validation=0.6, calibration=0, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="must be 0 or more, not -1"):
        split(numbered(torch.arange(10) % 2, classes=2), validation=0, calibration=0, seed=-1)
