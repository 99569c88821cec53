"""Temperatures: found where they are known, and of use where images are few or all right."""

import numpy as np
import pytest
from scipy.special import softmax

from compress.inference import fit_temperature, fit_temperatures


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_by_is_found(temperature: float) -> None:
    random = np.random.default_rng(0)
    honest = random.normal(size=(20_000, 5))
    labels = (softmax(honest, axis=1).cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    assert fit_temperature((honest * temperature).astype(np.float32), labels) == pytest.approx(temperature, rel=0.03)


def test_every_exit_has_its_own() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 3))
    labels = np.where(random.random(200) < 0.7, logits.argmax(axis=1), random.integers(3, size=200))
    both = fit_temperatures(np.stack([10 * logits, logits]), labels)
    assert both[0] == pytest.approx(fit_temperature(10 * logits, labels))
    assert both[0] > 5 * both[1]


def test_images_that_are_all_right_do_not_make_confidences_certain() -> None:
    logits = np.eye(4)[np.arange(100) % 4] * 3
    temperature = fit_temperature(logits, np.arange(100) % 4)
    assert 0.2 < temperature < 1
    assert softmax(logits / temperature, axis=1).max() < 1


def test_few_images_leave_the_temperature_near_1() -> None:
    logits = np.array([[2.0, 0.0]])
    assert fit_temperature(logits[:0], np.array([], dtype=int)) == pytest.approx(1, abs=1e-4)
    assert 1 < fit_temperature(logits, np.array([1])) < 3
    assert 0.5 < fit_temperature(logits, np.array([0])) < 1


def test_all_wrong_gives_the_largest_temperature() -> None:
    logits = np.array([[1e5, 0.0]] * 50)
    assert fit_temperature(logits, np.ones(50, dtype=int)) == pytest.approx(20, rel=1e-3)
