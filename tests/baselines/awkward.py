"""Small nets, each with something in its wiring that makes channels hard to follow: what they are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Layers = dict[str, nn.Module | Tensor]


@dataclass(frozen=True)
class Kind:
    """A kind of net.

    Attributes:
        layers: its own, by name, for a number of classes; tensors are parameters or buffers.
        forward: of the net and its images; features where it has a width, logits where not.
        width: of its features, which go on to a convolution, pooling and a classifier that all have in common.
    """

    layers: Callable[[int], Layers]
    forward: Callable[[Any, Tensor], Any]
    width: int | None = None


class Net(nn.Module):
    """A classifier of images of three channels, of a kind."""

    def __init__(self, kind: Kind, classes: int) -> None:
        super().__init__()
        for name, layer in kind.layers(classes).items():
            if isinstance(layer, nn.Module):
                self.add_module(name, layer)
            elif isinstance(layer, nn.Parameter):
                self.register_parameter(name, layer)
            else:
                self.register_buffer(name, layer)
        if kind.width:
            self.conv9, self.fc9 = normed(kind.width, 16, stride=2), nn.Linear(16, classes)
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, classes)` of images `(N, 3, H, W)`."""
        features = self.kind.forward(self, images)
        logits: Tensor = self.fc9(self.conv9(features).mean((2, 3))) if self.kind.width else features
        return logits


def normed(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def conv(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    """A convolution alone."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)


def first(width: int) -> nn.Sequential:
    """The first convolution, to half the size."""
    return normed(3, width, stride=2)


def tied(classes: int) -> Layers:
    """Two convolutions of one weight."""
    layers = {"conv1": first(12), "conv2": conv(12, 12), "conv3": conv(12, 12)}
    layers["conv3"].weight = layers["conv2"].weight
    return {**layers}


def siamese(classes: int) -> Layers:
    """Two convolutions of one weight, side by side, so that nothing can come between them."""
    layers = {"conv1": first(12), "conv2": conv(12, 8), "conv3": conv(12, 8)}
    layers["conv3"].weight = layers["conv2"].weight
    return {**layers}


def se(net: Any, images: Tensor) -> Any:
    """Squeeze-and-excitation by linear layers and views."""
    x = net.conv1(images)
    batch, channels = x.size(0), x.size(1)
    gate = net.gate1(functional.adaptive_avg_pool2d(x, 1).view(batch, channels)).view(batch, channels, 1, 1)
    return x * gate


def non_local(net: Any, images: Tensor) -> Any:
    """Attention over positions."""
    x = functional.max_pool2d(net.conv1(images), 2)
    query, key, value = net.query1(x).flatten(2), net.key1(x).flatten(2), net.value1(x).flatten(2)
    weights = (query.transpose(1, 2) @ key).softmax(-1)
    found = (value @ weights.transpose(1, 2)).unflatten(2, (x.size(2), x.size(3)))
    return x + net.out1(found)


def shuffled_by_views(net: Any, images: Tensor) -> Any:
    """Channels of two groups in turn."""
    x = net.group1(net.conv1(images))
    n, c, h, w = x.size()
    return net.group2(x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w))


def split_in_groups(net: Any, images: Tensor) -> Any:
    """Halves, each into a grouped convolution, as Res2Net's."""
    left, right = net.conv1(images).chunk(2, 1)
    return torch.cat([net.group1(left), net.group2(right)], 1)


def partial(net: Any, images: Tensor) -> Any:
    """Some channels are convolved, the others handed on; how many is said in code."""
    left, right = torch.split(net.conv1(images), [4, 12], dim=1)
    return torch.cat([net.conv2(left), right], 1)


def ghost(net: Any, images: Tensor) -> Any:
    """Cheap features beside the others, cut off at a width."""
    x = net.conv2(net.conv1(images))
    return torch.cat([x, net.cheap1(x)], 1)[:, :18]


def pyramid(net: Any, images: Tensor) -> Any:
    """One source several times in a concatenation."""
    x = net.conv1(images)
    once = net.pool1(x)
    return torch.cat([x, once, net.pool1(once)], 1)


def channel_attention(net: Any, images: Tensor) -> Any:
    """A convolution along the channels, as ECA's."""
    x = net.conv1(images)
    gate = net.conv2(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
    return x * gate.unsqueeze(-1).unsqueeze(-1)


def spatial_attention(net: Any, images: Tensor) -> Any:
    """Mean and maximum over the channels, as CBAM's."""
    x = net.conv1(images)
    return x * net.gate1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


def skipped_to_the_end(net: Any, images: Tensor) -> Any:
    """Early features joined to late ones before the classifier."""
    early = net.conv1(images)
    return net.fc1(torch.cat([early.mean((2, 3)), net.conv2(early).mean((2, 3))], 1))


def early_logits(net: Any, images: Tensor) -> Any:
    """Logits of early features added to the last ones."""
    early = net.conv1(images)
    return net.fc1(net.conv2(early).mean((2, 3))) + net.early1(early).mean((2, 3))


def summed_heads(net: Any, images: Tensor) -> Any:
    """Two classifiers of one map."""
    x = net.conv2(net.conv1(images))
    return net.fc1(x.mean((2, 3))) + net.fc2(x.amax((2, 3)))


def every_second(net: Any, images: Tensor) -> Any:
    """Channels by turns."""
    x = net.conv1(images)
    return net.conv2(x[:, ::2]) + net.conv3(x[:, 1::2])


def slices(net: Any, images: Tensor) -> Any:
    """Space to depth, as YOLO's."""
    x = net.conv1(images)
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def residual(net: Any, images: Tensor) -> Any:
    """A branch is added."""
    x = net.conv1(images)
    return x + net.branch1(x)


def transposed_weight(net: Any, images: Tensor) -> Any:
    """A weight used twice, the second time transposed."""
    x = net.conv2(net.conv1(images)).mean((2, 3))
    return net.fc2(functional.linear(net.fc1(x).relu(), net.fc1.weight.t()))


def two(classes: int) -> Layers:
    """Two convolutions one after the other."""
    return {"conv1": first(8), "conv2": normed(8, 8, stride=2)}


def plain(net: Any, images: Tensor) -> Any:
    """The features of the second convolution, as they are."""
    return net.conv2(net.conv1(images))


def stem(width: int, **layers: Callable[[], nn.Module | Tensor]) -> Callable[[int], Layers]:
    """A first convolution of this width, and other layers."""
    return lambda classes: {"conv1": first(width), **{name: layer() for name, layer in layers.items()}}
