"""The simulation and the cost of leaving, on hand-worked cases."""

import numpy as np
import pytest

from compress.errors import UsageError
from compress.inference import Policy, leaving_macs, mean_macs, simulate
from compress.network_cost import cost, exit_costs
from compress.networks import Network

LOG3 = np.log(3)
POLICY = Policy(temperatures=(1.0, 2.0), thresholds=(0.7,), weights="")


def test_images_are_answered_by_the_exit_they_leave_at() -> None:
    logits = np.array([[[LOG3, 0], [0, 0.1]], [[0, LOG3], [0, 2 * LOG3]]])  # (exits, images, classes)
    labels, exits, probabilities = simulate(logits, POLICY)
    assert (labels.tolist(), exits.tolist()) == ([0, 1], [1, 2])
    np.testing.assert_allclose(probabilities, [[0.75, 0.25], [0.25, 0.75]], rtol=1e-6)
    assert [array.dtype for array in (labels, exits, probabilities)] == [np.int64, np.int64, np.float32]


def test_the_label_is_that_of_the_largest_logit_though_probabilities_are_rounded_to_the_same() -> None:
    labels, _, probabilities = simulate(np.array([[[0.0, 1e-9]]] * 2), POLICY)
    assert probabilities[0, 0] == probabilities[0, 1]
    assert labels.tolist() == [1]


def test_a_policy_for_another_number_of_exits_is_refused() -> None:
    with pytest.raises(UsageError, match="for 2 exits, the network has 3"):
        simulate(np.zeros((3, 1, 2)), POLICY)


def test_leaving_costs_the_trunk_and_every_head_before(network: Network) -> None:
    alone = [exit.macs for exit in exit_costs(network)]
    # Heads of 16, 32 and 64 channels and 10 classes.
    assert leaving_macs(network).tolist() == [alone[0], alone[1] + 160, alone[2] + 160 + 320]
    assert leaving_macs(network)[-1] == cost(network).macs


def test_mean_macs_are_those_of_the_exits_that_images_left_at() -> None:
    assert mean_macs(np.array([1, 1, 3, 2]), np.array([10, 20, 60])) == 25.0
