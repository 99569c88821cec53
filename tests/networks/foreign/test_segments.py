"""What goes wrong inside a segment of a foreign network is an error, and nothing on stderr."""

import copy

import pytest
import torch

from compress import Architecture
from compress.networks import create, cut


def test_an_error_inside_a_segment_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    network = create(Architecture("torchvision:resnet18", image_size=32), exits=2)
    for one in (network, copy.deepcopy(network), cut(network, 1)):
        with pytest.raises(RuntimeError):
            one.blocks[0](torch.zeros(2, 5, 32, 32))
    assert capfd.readouterr().err == ""
