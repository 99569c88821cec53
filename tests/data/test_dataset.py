"""Labelled, Dataset and Normalisation: what they check, and what they say about the data."""

import dataclasses
import hashlib
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data import Dataset, Labelled, Normalisation, measure, normalise
from compress.errors import UsageError


def labelled(n: int = 4, *, shape: tuple[int, int, int] = (3, 5, 4), seed: int = 0) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, *shape), generator=generator, dtype=torch.uint8)
    return Labelled(images=images, labels=torch.arange(n) % 2)


def dataset(**changes: object) -> Dataset:
    parts = {"name": "made-up", "copy": "test", "classes": ("a", "b"), "train": labelled(), "test": labelled(3)}
    return Dataset(**{**parts, **changes})  # type: ignore[arg-type]


def test_labelled_subset_follows_the_indices() -> None:
    whole = labelled(6)
    part = whole.subset(torch.tensor([5, 0]))
    assert len(part) == 2
    assert torch.equal(part.images, torch.stack([whole.images[5], whole.images[0]]))
    assert part.labels.tolist() == [1, 0]
    assert len(whole.subset(torch.tensor([], dtype=torch.int64))) == 0


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "images must be uint8"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "2 images need int64 labels"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), "2 images need int64 labels"),
    ],
)
def test_labelled_checks_types_and_shapes(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Labelled(images=images, labels=labels)


def test_dataset_says_its_shape_and_parts() -> None:
    assert dataset().input_shape == (3, 5, 4)
    assert list(dataset().parts) == ["train", "test"]
    assert list(dataset(validation=labelled(2)).parts) == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a",)}, "made-up: train has labels that do not fit the classes: 0 to 1, not 0 to 0"),
        ({"test": Labelled(images=labelled(1).images, labels=torch.tensor([-1]))}, "test has labels that do not fit"),
        ({"train": labelled(0)}, "there are no train images"),
        ({"validation": labelled(0)}, "there are no validation images"),
        ({"test": labelled(shape=(1, 5, 4))}, "(C, H, W) of test images is (1, 5, 4), of train images (3, 5, 4)"),
        ({"normalisation": Normalisation(mean=(0.5,), std=(1.0,))}, "3 channels do not fit"),
    ],
)
def test_dataset_checks_its_parts(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        dataset(**changes)
    assert "\n" not in str(error.value)


def test_digest_is_computed_as_it_always_was() -> None:
    """Records of other years are compared by it."""
    data, sha = dataset(), hashlib.sha256()
    for part, shape in (("train", (4, 3, 5, 4)), ("test", (3, 3, 5, 4))):
        sha.update(f"{part} {shape}".encode())
        sha.update(data.parts[part].images.numpy().tobytes())
        sha.update(data.parts[part].labels.numpy().astype("<i8").tobytes())
    assert data.digest == sha.hexdigest()


def test_digest_depends_on_pixels_labels_shapes_and_parts_alone() -> None:
    base = dataset()
    assert re.fullmatch("[0-9a-f]{64}", base.digest)
    assert dataset(name="other", copy="other").digest == base.digest
    train, test = labelled(), labelled(3)
    strided = train.images.to(memory_format=torch.channels_last)
    assert dataset(train=dataclasses.replace(train, images=strided)).digest == base.digest

    pixel = train.images.clone()
    pixel[0, 0, 0, 0] += 1
    digests = {
        base.digest,
        dataset(train=dataclasses.replace(train, images=pixel)).digest,
        dataset(test=dataclasses.replace(test, labels=1 - test.labels)).digest,
        dataset(train=labelled(shape=(3, 4, 5)), test=labelled(3, shape=(3, 4, 5))).digest,
        dataset(validation=labelled(1)).digest,
    }
    assert len(digests) == 5


def test_normalise_is_its_formula_and_keeps_the_memory_format() -> None:
    images = labelled(4).images.to(memory_format=torch.channels_last)
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])
    result = normalise(images, Normalisation(mean=tuple(mean), std=tuple(std)))
    expected = (images.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 9), channels=st.integers(1, 4), seed=st.integers(0, 99))
def test_measure_agrees_with_numpy(n: int, channels: int, seed: int) -> None:
    images = labelled(n, shape=(channels, 3, 2), seed=seed).images
    measured = measure([images])
    pixels = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(measured.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(measured.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_is_measured_and_normalised_without_nan() -> None:
    images = torch.full((3, 1, 2, 2), 51, dtype=torch.uint8)
    assert measure([images]) == Normalisation(mean=(0.2,), std=(1.0,))
    assert normalise(images, measure([images])).abs().max() < 1e-6


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.0,)), ((0.5,), (-1.0,)), ((0.5, 0.5), (1.0,))])
def test_normalisation_checks_its_numbers(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="one mean and one positive std per channel"):
        Normalisation(mean=mean, std=std)
