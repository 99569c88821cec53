"""Blocks and heads beyond the paper's ResNet, against torchvision and against their definitions."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import MobileNetV2

from compress import Architecture
from compress.network_cost import cost
from compress.networks import create
from compress.networks.heads import HEADS

# Its settings in torchvision's form, with CIFAR's strides.
SETTINGS = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]


def randomise_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)


def test_mobilenetv2_is_torchvisions_with_the_strides_of_small_images() -> None:
    torch.manual_seed(0)
    theirs = MobileNetV2(num_classes=10, inverted_residual_setting=SETTINGS).eval()
    theirs.features[0][0].stride = (1, 1)
    randomise_norms(theirs)
    ours = create("mobilenetv2", classes=10).eval()
    values = iter(theirs.state_dict().values())  # both define their layers in the order of the forward pass
    state = {name: next(values) for name in ours.state_dict()}
    ours.load_state_dict(state, strict=True)
    assert next(values, None) is None
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours(images)[-1], theirs(images), atol=1e-5)
    assert ours.spec.depths == (1 + 2 + 16 * 3 + 1 + 1,)
    assert cost(ours).params == 2_236_682  # of torchvision's with ten classes


def test_a_norm_last_block_is_its_definition() -> None:
    torch.manual_seed(0)
    network = create("resnet8nl").double().eval()
    randomise_norms(network)
    block = network.blocks[1]
    features = torch.randn(2, 16, 8, 8, dtype=torch.float64)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        layer = block.get_submodule(name)
        assert isinstance(layer, nn.BatchNorm2d)
        return functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)

    weights = block.state_dict()
    branch = functional.conv2d(norm(features, "norm1"), weights["conv1.weight"], stride=2, padding=1)
    branch = functional.conv2d(functional.relu(norm(branch, "norm2")), weights["conv2.weight"], padding=1)
    shortcut = functional.conv2d(features, weights["shortcut.weight"], stride=2)
    assert torch.allclose(block(features), norm(branch, "norm3") + shortcut, atol=1e-12)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_sees_the_features_and_leaves_them_as_they_are(head: str) -> None:
    torch.manual_seed(0)
    network = create(Architecture("resnet8", head=head), exits=3, input_shape=(3, 9, 9)).eval()
    plain = create("resnet8", exits=3, input_shape=(3, 9, 9)).eval()
    shared = {
        name: tensor for name, tensor in network.state_dict().items() if not name.startswith(("heads.1", "heads.2"))
    }
    plain.load_state_dict(shared, strict=False)
    images = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        logits = network(images)
        assert torch.equal(logits[-1], plain(images)[-1])  # no head changes what later blocks see
        assert not torch.equal(logits[0][0], logits[0][1])
    names = [type(layer).__name__ for layer in network.heads["1"].children()]
    assert (
        names
        == {
            "bn-relu-gap-fc": ["BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"],
            "gap-fc": ["AdaptiveAvgPool2d", "Flatten", "Linear"],
            "relu-gap-fc": ["ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"],
            "bn-relu-flatten-fc": ["BatchNorm2d", "ReLU", "Flatten", "Linear"],
            "bn-relu-conv-gap-fc": [
                *("BatchNorm2d", "ReLU", "Conv2d"),
                *("BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"),
            ],
            "ln-mean-fc": ["ChannelsLast", "LayerNorm", "MeanOfPositions", "Linear"],
        }[head]
    )
    assert network.spec.exits[-1].head == "bn-relu-gap-fc"  # the trunk's own, whatever the auxiliary ones are
