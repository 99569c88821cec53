"""Gradients through compiled blocks are about as near the exact ones as eager ones are. Not run on a GPU yet."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.networks import create
from compress.training.compiled import compiled

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("default")]
DEVICE, BATCH = "cuda", 500  # as in a training: kernels are chosen by sizes
TIMES, FLOOR = 2.0, 0.01  # as far as eager bf16 at most, and as near as it need not be


def test_gradients_in_bf16_are_as_near_those_in_fp32_as_eager_ones() -> None:
    """Fused reductions gave wrong gradients silently (pytorch 190796), so every parameter's is compared."""
    torch.manual_seed(0)
    network = create("resnet44", exits=5).to(DEVICE).to(memory_format=torch.channels_last).train()
    images = torch.randn(BATCH, 3, 32, 32, device=DEVICE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device=DEVICE) % 10

    def gradients(model: nn.Module, *, bf16: bool) -> list[Tensor]:
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=bf16):
            exits = model(images)
        loss = torch.stack([functional.cross_entropy(logits.float(), labels) for logits in exits]).sum()
        return list(torch.autograd.grad(loss, list(network.parameters())))

    def far(found: list[Tensor]) -> Tensor:
        return torch.stack([(one - true).norm() / true.norm() for one, true in zip(found, exact, strict=True)])

    model = compiled(network)
    assert model is not network
    exact = gradients(network, bf16=False)
    eager, fused = (far(gradients(each, bf16=True)) for each in (network, model))
    assert bool((fused <= TIMES * eager + FLOOR).all()), [*zip(eager.tolist(), fused.tolist(), strict=True)]
