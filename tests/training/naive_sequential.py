"""MW-BP in the authors' order ("sequential"), its backward written by hand: slow, literal, from METHOD.md alone.

One forward pass; then, exit by exit, a backward pass of that exit's loss and at once the steps of its head and of all
the trunk up to it. So a later backward meets weights that earlier exits have already changed, and activations, batch
statistics and ReLU masks of the forward pass, which nobody has recomputed. Autograd takes no part: every layer returns
its output and a function from the output's gradient to the input's, which reads the layer's weight when it is *called*.

It shares no code with `compress.training`, which it checks.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.optim import SGD

from compress.networks import Network
from compress.networks.blocks import PreActivationBlock
from compress.networks.strided_pointwise import SubsampledConv2d
from tests.training.naive_mwbp import gammas, lambdas

LOSS_RATIO = 2.0  # AuxNet: an exit whose loss is more than so many times the final one's has a rate of its own

Backward = Callable[[Tensor], Tensor]
"""From the gradient of a layer's output to that of its input; leaves the weights' gradients in their `grad`."""


class NaiveSequential:
    """Trains a network in place with an SGD an exit for the trunk up to it, and an SGD a head.

    Args:
        network: pre-activation blocks; float64, where the result is to be compared closely.
        rate: learning rate of the heads and of the final exit; auxiliary exit i steps the trunk with rate / lambda_i.
        momentum: of every optimiser, in buffers of its own.
        nesterov: likewise.
        weight_decay: of every optimiser, scaled by nothing: neither gamma_i nor lambda_i.
        loss_ratio_rate: AuxNet's rule, see `trunk_rates`.
    """

    def __init__(
        self,
        network: Network,
        *,
        rate: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        loss_ratio_rate: bool = False,
    ) -> None:
        self.network = network
        self.blocks = [exit.block for exit in network.spec.exits]
        self.gammas = gammas([2 * block + 1 for block in self.blocks[:-1]])
        self.lambdas = lambdas(self.gammas)
        self.initial_rate = self.rate = rate
        self.loss_ratio_rate = loss_ratio_rate

        def optimiser(parameters: Iterable[nn.Parameter]) -> SGD:
            return SGD(parameters, lr=rate, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

        self.trunks = [
            [parameter for layer in [network.stem, *network.blocks[:block]] for parameter in layer.parameters()]
            for block in self.blocks
        ]
        self.trunk_optimisers = [optimiser(trunk) for trunk in self.trunks]
        self.head_optimisers = [optimiser(network.heads[str(block)].parameters()) for block in self.blocks]

    def scale_rate(self, factor: float) -> None:
        """Set the rate to `factor` of what it was at the start."""
        self.rate = factor * self.initial_rate

    def trunk_rates(self, losses: list[float]) -> list[float]:
        """The rate of every exit's trunk optimiser: rate / lambda_i.

        With `loss_ratio_rate`, where L_i / L_final > 2, rate * L_final / L_i in its stead.
        """
        rates = []
        for loss, divisor in zip(losses, self.lambdas, strict=True):
            lags = self.loss_ratio_rate and loss / losses[-1] > LOSS_RATIO
            rates.append(self.rate * losses[-1] / loss if lags else self.rate / divisor)
        return rates

    @torch.no_grad()
    def step(self, images: Tensor, labels: Tensor) -> list[float]:
        """One forward, then a backward and its steps an exit; the loss of every exit, shallow to deep."""
        logits, backwards = forward(self.network, images)
        losses = [functional.cross_entropy(of_exit, labels).item() for of_exit in logits]
        for i, rate in enumerate(self.trunk_rates(losses)):
            self._backward(backwards[i], cross_entropy_gradient(logits[i], labels))
            for parameter in self.trunks[i]:
                assert parameter.grad is not None
                parameter.grad *= self.gammas[i]
            self.head_optimisers[i].param_groups[0]["lr"] = self.rate
            self.trunk_optimisers[i].param_groups[0]["lr"] = rate
            self.head_optimisers[i].step()
            self.trunk_optimisers[i].step()
        return losses

    def _backward(self, backward: Backward, gradient: Tensor) -> None:
        """For a test to get it wrong in."""
        backward(gradient)


def forward(network: Network, images: Tensor) -> tuple[list[Tensor], list[Backward]]:
    """The logits `(N, classes)` of every exit, as in train mode, and the backward of each from there to the images.

    Running statistics move as in `Network.forward`. A parameter's gradient is set, not added to, by each backward.
    """
    features, through_stem = apply(network.stem, images)
    trunk, logits, backwards = [through_stem], [], []
    for number, block in enumerate(network.blocks, start=1):
        features, through_block = apply(block, features)
        trunk.append(through_block)
        if str(number) in network.heads:
            of_exit, through_head = apply(network.heads[str(number)], features)
            logits.append(of_exit)
            backwards.append(chain([*trunk, through_head]))
    return logits, backwards


def apply(layer: nn.Module, x: Tensor) -> tuple[Tensor, Backward]:
    """What the layer makes of `x`, and its backward."""
    return LAYERS[type(layer)](layer, x)


def chain(backwards: list[Backward]) -> Backward:
    """The backward of layers in a row, given in the order of their forwards."""

    def backward(gradient: Tensor) -> Tensor:
        for through_layer in reversed(backwards):
            gradient = through_layer(gradient)
        return gradient

    return backward


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the batch's mean cross-entropy with respect to the logits: (softmax - one-hot) / N."""
    return (logits.softmax(1) - functional.one_hot(labels, logits.shape[1])) / len(labels)


def sequence(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Backward]:
    backwards = []
    for layer in layers:
        x, through_layer = apply(layer, x)
        backwards.append(through_layer)
    return x, chain(backwards)


def pre_activation_block(block: PreActivationBlock, x: Tensor) -> tuple[Tensor, Backward]:
    activated, through_activation = sequence([block.norm1, block.relu], x)
    branch, through_branch = sequence([block.conv1, block.norm2, block.relu, block.conv2], activated)
    short, through_shortcut = apply(block.shortcut, activated if block.opens_stage else x)

    def backward(gradient: Tensor) -> Tensor:
        by_branch, by_shortcut = through_branch(gradient), through_shortcut(gradient)
        if block.opens_stage:
            return through_activation(by_branch + by_shortcut)
        return through_activation(by_branch) + by_shortcut

    return branch + short, backward


def convolution(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, Backward]:
    stride, padding = layer.stride, layer.padding

    def backward(gradient: Tensor) -> Tensor:
        layer.weight.grad = conv2d_weight(x, layer.weight.shape, gradient, stride, padding)
        by_input: Tensor = conv2d_input(x.shape, layer.weight, gradient, stride, padding)
        return by_input

    return functional.conv2d(x, layer.weight, None, stride, padding), backward


def batch_norm(layer: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Backward]:
    """With the batch's statistics, which the backward keeps; the weight it takes as it then stands."""
    over, count = (0, 2, 3), x.numel() // x.shape[1]
    mean, variance = x.mean(over), x.var(over, correction=0)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    assert layer.momentum is not None
    layer.running_mean.lerp_(mean, layer.momentum)
    layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)
    layer.num_batches_tracked += 1

    inverse_std = by_channel((variance + layer.eps).rsqrt())
    normalised = (x - by_channel(mean)) * inverse_std

    def backward(gradient: Tensor) -> Tensor:
        layer.weight.grad = (gradient * normalised).sum(over)
        layer.bias.grad = gradient.sum(over)
        scaled = gradient * by_channel(layer.weight)
        by_mean = scaled.mean(over, keepdim=True)
        by_variance = (scaled * normalised).mean(over, keepdim=True) * normalised
        return inverse_std * (scaled - by_mean - by_variance)

    return normalised * by_channel(layer.weight) + by_channel(layer.bias), backward


def by_channel(values: Tensor) -> Tensor:
    """`(C,)` as `(C, 1, 1)`, to be broadcast over `(N, C, H, W)`."""
    return values[:, None, None]


def relu(layer: nn.ReLU, x: Tensor) -> tuple[Tensor, Backward]:
    mask = x > 0
    return x * mask, lambda gradient: gradient * mask


def global_average(layer: nn.AdaptiveAvgPool2d, x: Tensor) -> tuple[Tensor, Backward]:
    assert layer.output_size == 1
    area = x.shape[2] * x.shape[3]
    return x.mean((2, 3), keepdim=True), lambda gradient: gradient.expand(x.shape) / area


def flatten(layer: nn.Flatten, x: Tensor) -> tuple[Tensor, Backward]:
    return x.flatten(1), lambda gradient: gradient.reshape(x.shape)


def linear(layer: nn.Linear, x: Tensor) -> tuple[Tensor, Backward]:
    def backward(gradient: Tensor) -> Tensor:
        layer.weight.grad = gradient.T @ x
        layer.bias.grad = gradient.sum(0)
        return gradient @ layer.weight

    return x @ layer.weight.T + layer.bias, backward


def identity(layer: nn.Identity, x: Tensor) -> tuple[Tensor, Backward]:
    return x, lambda gradient: gradient


LAYERS: dict[type[nn.Module], Callable[[Any, Tensor], tuple[Tensor, Backward]]] = {
    nn.Sequential: sequence,
    PreActivationBlock: pre_activation_block,
    nn.Conv2d: convolution,
    SubsampledConv2d: convolution,
    nn.BatchNorm2d: batch_norm,
    nn.ReLU: relu,
    nn.AdaptiveAvgPool2d: global_average,
    nn.Flatten: flatten,
    nn.Linear: linear,
    nn.Identity: identity,
}
