"""Airbench loop: the training loop of Keller Jordan's cifar10-airbench on a network of ours, a public mark of speed.

Re-implemented from legacy/airbench94.py at commit f1c599c of https://github.com/KellerJordan/cifar10-airbench (MIT
licence, copyright 2024 Keller Jordan). Taken: images on the device, in half precision, normalised, mirrored and padded
once; crops of a whole epoch at a time, mirrored in every other epoch; weights in half precision but for batch norm's;
the summed loss with label smoothing; SGD with Nesterov momentum by the default kernels, with faster biases of batch
norm; the rate from a scheduler at every step; slow weights that are mixed in every fifth step. Not taken: its network
and initial weights, its evaluation, and its base rate and decay, in whose place the recipe's are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.data import Split, normalise
from compress.networks import Network
from compress.recipes import Recipe

LABEL_SMOOTHING, BIAS_FACTOR = 0.2, 64.0
WARM_UP, FIRST_RATE, LAST_RATE = 0.23, 0.2, 0.07  # share of the training, and shares of the highest rate
MIXED_EVERY, SLOWEST = 5, 0.95**5  # steps, and the last share of the slow weights


class AirbenchLoop:
    """Trains a network of one exit on batches of a split, whose images and labels are on the network's device.

    Args:
        dtype: of images and weights; float16 there.
        steps: length of the training that rates and slow weights follow; more steps repeat the last ones'.
    """

    def __init__(self, network: Network, split: Split, recipe: Recipe, *, dtype: torch.dtype, steps: int) -> None:
        self.network = network.train().to(dtype).to(memory_format=torch.channels_last)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.float()
        self.labels, self.padding, self.batch_size = split.train.labels, recipe.crop_padding, recipe.batch_size
        images = normalise(split.train.images, split.normalisation).to(dtype, memory_format=torch.channels_last)
        coins = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        self.padded = functional.pad(torch.where(coins, images.flip(-1), images), (self.padding,) * 4, "reflect")
        self.criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING, reduction="none")
        biases = [norm.bias for norm in norms]
        found = set(map(id, biases))
        others = [parameter for parameter in network.parameters() if id(parameter) not in found]
        rate, decay = recipe.learning_rate / recipe.batch_size, recipe.weight_decay * recipe.batch_size
        groups = [
            {"params": biases, "lr": rate * BIAS_FACTOR, "weight_decay": decay / BIAS_FACTOR},
            {"params": others, "lr": rate, "weight_decay": decay},
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: triangle(step / steps))
        self.slow = {name: value.clone() for name, value in network.state_dict().items()}
        self.steps, self.done = steps, 0
        self.batches = self._batches()

    def train(self, steps: int) -> float:
        """Train for some steps; returns the mean loss of the last batch's images."""
        for _ in range(steps):
            images, labels = next(self.batches)
            loss = self.criterion(self.network(images)[-1], labels).sum()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.done += 1
            if self.done % MIXED_EVERY == 0:
                self._mix(SLOWEST * min(1.0, self.done / self.steps) ** 3)
        return float(loss.detach()) / self.batch_size

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch after another; the smaller last batch of an epoch is dropped."""
        count, epoch = len(self.labels), 0
        while True:
            images = cropped(self.padded, self.padding)
            if epoch % 2:
                images = images.flip(-1)
            order = torch.randperm(count, device=images.device)
            for start in range(0, count - self.batch_size + 1, self.batch_size):
                chosen = order[start : start + self.batch_size]
                yield images[chosen], self.labels[chosen]
            epoch += 1

    @torch.no_grad()
    def _mix(self, share: float) -> None:
        """Move the slow weights towards the network's, all but a share of the way, and the network's onto them."""
        for slow, fast in zip(self.slow.values(), self.network.state_dict().values(), strict=True):
            if fast.is_floating_point():
                slow.lerp_(fast, 1 - share)
                fast.copy_(slow)


def triangle(progress: float) -> float:
    """The factor on the rates when a share of the training is done: linear upwards, then downwards."""
    if progress < WARM_UP:
        return FIRST_RATE + (1 - FIRST_RATE) * progress / WARM_UP
    return 1 - (1 - LAST_RATE) * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))


def cropped(padded: Tensor, padding: int) -> Tensor:
    """A random crop of every padded image `(N, C, H, W)`: rows, then columns, those of one shift at a time."""
    count, channels, height, width = padded.shape
    shifts = torch.randint(2 * padding + 1, (count, 2), device=padded.device)
    rows = padded.new_empty(count, channels, height - 2 * padding, width)
    crops = padded.new_empty(count, channels, height - 2 * padding, width - 2 * padding)
    for shift in range(2 * padding + 1):
        chosen = shifts[:, 0] == shift
        rows[chosen] = padded[chosen, :, shift : shift + rows.shape[2], :]
    for shift in range(2 * padding + 1):
        chosen = shifts[:, 1] == shift
        crops[chosen] = rows[chosen, :, :, shift : shift + crops.shape[3]]
    return crops
