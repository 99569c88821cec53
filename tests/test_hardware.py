"""What a device can compute with."""

import pytest
import torch

from compress.errors import UsageError
from compress.hardware import check_bf16
from compress.networks import create


def test_a_stride_over_a_map_one_pixel_wide_is_refused_in_bf16_on_a_cpu() -> None:
    network = create("resnet8", input_shape=(1, 8, 2))
    with pytest.raises(UsageError, match=r"precision bf16: blocks\.2\.conv1 takes strides over a map one pixel wide"):
        check_bf16(network, torch.device("cpu"))
    check_bf16(network, torch.device("meta"))
    check_bf16(create("resnet8", input_shape=(1, 8, 3)), torch.device("cpu"))
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())
