"""Compaction: measured to pay where most images leave early, and what is made of such measurements."""

import pytest
import torch

from benchmarks.measuring.compaction import compact_from, measure_compaction
from compress.inference import Policy
from compress.networks import digest_of_weights
from tests.baselines.networks import network_of

PAYS, COSTS, UNSURE = (0.5, 0.6, 0.7), (1.0, 1.1, 1.2), (0.8, 0.9, 1.1)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({2: COSTS, 8: PAYS, 32: PAYS}, 8),
        ({2: PAYS, 8: UNSURE, 32: PAYS}, 32),
        ({2: PAYS, 8: COSTS}, False),
        ({}, False),
    ],
)
def test_it_is_used_from_the_batch_size_on_from_which_it_paid_throughout(
    ratios: dict[int, tuple[float, float, float]], expected: int | bool
) -> None:
    assert compact_from(ratios) == compact_from(dict(reversed(ratios.items()))) == expected


def test_taking_out_nearly_all_images_early_pays() -> None:
    network = network_of("resnet20", exits=3, size=24)
    images = torch.randn(32, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        confidences = torch.softmax(network(images)[0], dim=-1).amax(dim=-1).sort().values
    threshold = float(confidences[:2].mean())  # all but one are above it
    policy = Policy(temperatures=(1.0,) * 3, thresholds=(threshold, 1.0), weights=digest_of_weights(network))
    ratios = measure_compaction(network, images, policy, batch_sizes=(16, 32, 64), rounds=5)
    assert list(ratios) == [16, 32]
    assert all(median < 1 for _, median, _ in ratios.values())  # quartiles would be a matter of the machine's load
