"""The decision of early exit on hand-worked cases."""

import numpy as np
import pytest

from compress.errors import UsageError
from compress.inference import Policy, confidences, leave
from compress.inference.policy import exceeds

SURE = np.array([40.0, 0.0])  # softmax rounds to 1.0 in float64
EVEN = np.array([0.0, 0.0])
LOG3 = np.array([np.log(3), 0.0])  # probabilities 0.75 and 0.25


def policy(*thresholds: float, temperatures: tuple[float, ...] = (1, 1, 1)) -> Policy:
    return Policy(temperatures=temperatures, thresholds=thresholds, weights="")


def test_confidence_is_the_largest_probability_at_the_temperature() -> None:
    assert confidences(np.stack([LOG3, EVEN, SURE]), 1.0) == pytest.approx([0.75, 0.5, 1.0])
    assert confidences(np.stack([LOG3 * 2]), 2.0) == pytest.approx([0.75])


def test_images_leave_at_the_first_exit_above_its_threshold() -> None:
    logits = np.array([[LOG3, EVEN, EVEN, LOG3], [EVEN, LOG3, EVEN, LOG3], [EVEN] * 4])  # (exits, N, classes)
    assert leave(logits, policy(0.7, 0.7)).tolist() == [1, 2, 3, 1]
    assert leave(logits, policy(0.8, 0.7)).tolist() == [3, 2, 3, 2]


def test_a_threshold_is_exceeded_not_reached() -> None:
    logits = np.array([[SURE, LOG3], [SURE, LOG3], [EVEN, EVEN]])
    assert leave(logits, policy(1.0, 1.0)).tolist() == [3, 3]
    assert leave(logits[:, :1], policy(0.999, 1.0)).tolist() == [1]


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.3])
def test_one_image_is_decided_as_many_are_bit_for_bit(temperature: float) -> None:
    """At thresholds that are the very confidences, and the floats next to them, where a rounding would decide."""
    logits = np.random.default_rng(0).normal(scale=5, size=(300, 10)).astype(np.float32)
    for row, confidence in zip(logits.tolist(), confidences(logits, temperature), strict=True):
        below, above = np.nextafter(confidence, 0), np.nextafter(confidence, 2)
        found = [exceeds(row, temperature, threshold) for threshold in (0.0, below, confidence, above, 1.0)]
        assert found == [True, True, False, False, False]


@pytest.mark.parametrize("logits", [[np.nan, 0.0], [np.inf, 0.0], [np.inf, np.inf], [-np.inf, 0.0], [1e38, -1e38]])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_one_image_of_extreme_logits_is_decided_as_many_are(logits: list[float]) -> None:
    for threshold in (0.0, 0.5, 1.0):
        assert exceeds(logits, 1.0, threshold) == (confidences(np.array([logits]), 1.0)[0] > threshold)


@pytest.mark.parametrize(
    ("temperatures", "thresholds", "message"),
    [
        ((1, 1), (0.5, 0.5), "2 thresholds for 2 exits"),
        ((1, 0), (0.5,), "must be above 0"),
        ((1, 1), (1.5,), "from 0 to 1"),
    ],
)
def test_policies_out_of_range_are_refused(
    temperatures: tuple[float, ...], thresholds: tuple[float, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        policy(*thresholds, temperatures=temperatures)


def test_a_policy_that_does_not_fit_the_network_is_refused() -> None:
    with pytest.raises(UsageError, match="for 3 exits, the network has 2"):
        leave(np.zeros((2, 1, 2)), policy(0.5, 0.5))


def test_json_gives_the_policy_back() -> None:
    original = policy(0.5, 0.25, temperatures=(1.5, 1, 2))
    assert Policy.from_json(original.to_json()) == original
    with pytest.raises(UsageError, match="thresholds"):
        Policy.from_json({"temperatures": [1.0], "weights": ""})
