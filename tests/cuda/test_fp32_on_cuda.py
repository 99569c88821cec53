"""Logits in fp32 are those of a CPU: not of TF32, whose inputs have 10 bits. Not run on a GPU yet."""

import pytest
import torch

from compress.data import Dataset, Normalisation
from compress.networks import create
from compress.training.evaluation import predict

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]
NEAR = 1e-4  # of the largest logit; fp32 is some 1e-6 off, TF32 some 1e-3


def test_logits_are_those_of_a_cpu(tiny: Dataset) -> None:
    torch.manual_seed(0)
    network, plain = create("resnet20", input_shape=tiny.input_shape), Normalisation(mean=(0.5,), std=(0.25,))
    expected = predict(network, tiny.test, plain)
    found = predict(network.to("cuda"), tiny.test.to("cuda"), plain).cpu()
    assert float((found - expected).abs().max() / expected.abs().max()) < NEAR
