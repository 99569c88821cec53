"""Nets of torchvision and timm are pruned, counted, held against their masked whole, and rebuilt from their spec."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from baselines.budget import NEAREST, Budget
from baselines.budget_search import meet
from baselines.channels import ascending, by_score, remove_channels
from baselines.coupling import Coupling
from baselines.criteria import channel_scores
from baselines.removal_order import Size
from baselines.scoring_data import ScoringData
from compress.networks import Network, create
from tests.baselines.networks import rebuilt, trained_like

SIDE = 64
QUICK = "timm:mobilevit_xxs"  # the quickest net with attention heads, depthwise convolutions and an addition
# fmt: off
TORCHVISION = (
    "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "mnasnet0_5", "squeezenet1_0", "regnet_x_400mf", "regnet_y_400mf", "efficientnet_b0",
    "efficientnet_v2_s", "googlenet", "inception_v3", "densenet121", "vgg11_bn", "alexnet", "convnext_tiny",
    "shufflenet_v2_x0_5", "vit_b_16", "swin_t",
)
TIMM = (
    "convnext_atto", "ghostnet_050", "resnest14d", "mobilenetv3_small_050", "regnety_002", "resnet10t",
    "starnet_s1", "dla46_c", "lcnet_050", "tinynet_e", "mobilenetv4_conv_small", "mobileone_s0", "repvgg_a0",
    "efficientnet_b1_pruned", "ese_vovnet19b_dw", "hrnet_w18_small", "seresnext26ts", "repghostnet_050",
    "skresnet18", "ecaresnet26t", "cs3darknet_s", "dpn48b", "res2net50_14w_8s", "mixnet_s", "fasternet_t0",
    "rexnet_100", "nf_regnet_b0", "mobilevit_xxs", "edgenext_xx_small", "vit_tiny_patch16_224",
)
# fmt: on
ALL = (*(f"torchvision:{name}" for name in TORCHVISION), *(f"timm:{name}" for name in TIMM))
LARGER = {"torchvision:inception_v3": 96}  # than 64 pixels
# Shares of channels, where what cannot go leaves more than half of the MACs.
LESS = {"timm:nf_regnet_b0": 0.3, "timm:rexnet_100": 0.3, "timm:mixnet_s": 0.2}


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch != QUICK)) for arch in ALL])
def test_every_net_is_pruned_to_half_of_its_macs(arch: str) -> None:
    """Channels are scored by l1; `remove_channels` compares every network with the masked whole one."""
    if arch.startswith("timm:"):
        pytest.importorskip("timm")
    network = _network(arch)
    coupling = Coupling(network)
    found = channel_scores(network, "l1", cast(ScoringData, SimpleNamespace(seed=0, macs=0)))
    offered = by_score(found, coupling.groups, coupling.size)
    budget = Budget(ratio=LESS[arch]) if arch in LESS else Budget(speedup=2.0)
    removed = meet(budget, offered, within=NEAREST)
    least_first = enumerate(zip(ascending(found, coupling.groups), removed, strict=True))
    smaller = remove_channels(network, {number: units[:count] for number, (units, count) in least_first})
    assert Size.of(smaller) == coupling.size(removed)
    assert Size.of(smaller).macs < (1.0 if arch in LESS else 0.52) * coupling.before.macs
    images = torch.randn(2, *network.spec.input_shape)
    with torch.no_grad():
        assert torch.equal(rebuilt(smaller)(images)[-1], smaller(images)[-1])


def _network(arch: str) -> Network:
    torch.manual_seed(0)
    side = LARGER.get(arch, SIDE)
    return trained_like(create(arch, input_shape=(3, side, side), classes=5))
