"""Padding, cropping and mirroring against a loop over single images; the draws against their definitions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data import Augmentation, Flip, pad_crop_flip
from compress.errors import UsageError


def one_image(image: np.ndarray, top: int, left: int, flip: bool, padding: int) -> np.ndarray:
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    crop = padded[:, top : top + height, left : left + width]
    return crop[:, :, ::-1] if flip else crop


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_a_batch_is_what_its_images_are_one_by_one(shape: tuple[int, int, int, int], padding: int, seed: int) -> None:
    images = torch.from_numpy(np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8))
    shifts, flips = Augmentation(padding=padding, flip="random", seed=seed).epoch(0, shape[0])
    result = pad_crop_flip(images, shifts=shifts, flips=flips, padding=padding)
    assert (result.dtype, result.shape) == (torch.uint8, shape)
    for i, image in enumerate(images.numpy()):
        expected = one_image(image, int(shifts[i, 0]), int(shifts[i, 1]), bool(flips[i]), padding)
        np.testing.assert_array_equal(result[i].numpy(), expected)


def test_central_shifts_without_flips_change_nothing() -> None:
    images = torch.randint(256, (3, 3, 6, 5), dtype=torch.uint8)
    shifts, flips = torch.full((3, 2), 4), torch.zeros(3, dtype=torch.bool)
    assert torch.equal(pad_crop_flip(images, shifts=shifts, flips=flips, padding=4), images)


def test_shifts_take_every_value_about_equally_often_in_both_directions() -> None:
    shifts, _ = Augmentation(padding=4, flip="none", seed=0).epoch(0, 9000)
    for direction in shifts.T:
        assert direction.bincount().shape == (9,)
        assert torch.all((direction.bincount() - 1000).abs() < 150)
    assert abs(np.corrcoef(shifts.T.numpy())[0, 1]) < 0.05


def test_random_flips_are_fair_and_new_in_every_epoch() -> None:
    augmentation = Augmentation(padding=4, flip="random", seed=0)
    first, second = (augmentation.epoch(epoch, 10_000)[1] for epoch in (0, 1))
    assert abs(first.float().mean() - 0.5) < 0.03
    assert abs((first == second).float().mean() - 0.5) < 0.03


def test_alternating_flips_start_with_a_fair_coin_and_turn_round_every_epoch() -> None:
    augmentation = Augmentation(padding=4, flip="alternating", seed=0)
    epochs = [augmentation.epoch(epoch, 10_000)[1] for epoch in range(4)]
    assert abs(epochs[0].float().mean() - 0.5) < 0.03
    for before, after in pairwise(epochs):
        assert torch.equal(after, ~before)


@pytest.mark.parametrize("flip", ["random", "alternating", "none"])
def test_draws_depend_on_seed_and_epoch_alone(flip: Flip) -> None:
    def draw(seed: int, epoch: int) -> list[list[int]]:
        augmentation = Augmentation(padding=4, flip=flip, seed=seed)
        shifts, flips = augmentation.epoch(epoch, 50)
        return [shifts.flatten().tolist(), flips.tolist(), augmentation.order(epoch, 50).tolist()]

    torch.manual_seed(1)
    resumed = draw(0, 3)
    torch.manual_seed(2)
    assert [draw(0, epoch) for epoch in range(4)][3] == resumed
    for other in (draw(0, 4), draw(1, 3)):
        assert other[0] != resumed[0]
        assert other[2] != resumed[2]


def test_the_order_visits_every_image_once_and_differs_between_epochs() -> None:
    augmentation = Augmentation(padding=0, flip="none", seed=5)
    first, second = augmentation.order(0, 300), augmentation.order(1, 300)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(300))
    assert first.tolist() != second.tolist()
    assert first.tolist() != list(range(300))


def test_how_images_are_flipped_changes_neither_their_shifts_nor_their_order() -> None:
    plain, flipped = (Augmentation(padding=4, flip=flip, seed=0) for flip in ("none", "random"))
    assert torch.equal(plain.epoch(2, 40)[0], flipped.epoch(2, 40)[0])
    assert torch.equal(plain.order(2, 40), flipped.order(2, 40))


def test_arguments_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="unknown crop 'resize': did you mean 'resized'"):
        Augmentation(padding=0, flip="none", crop="resize", seed=0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown flip 'alternate': did you mean 'alternating'"):
        Augmentation(padding=4, flip="alternate", seed=0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must be 0 or more, not -1 and 0"):
        Augmentation(padding=-1, flip="none", seed=0)
