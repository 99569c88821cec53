"""Usual trainer: training as torchvision's references do it, with every fast setting that takes one line each.

PIL images one by one, torchvision's transforms, a DataLoader with workers and pinned memory; then autocast, channels
last, fused SGD, and no wait for the device within an epoch. The network is neither compiled nor captured.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from compress.data import Split
from compress.hardware import Precision
from compress.networks import Network
from compress.recipes import Recipe

MOST_WORKERS = 8


def default_workers() -> int:
    """As many workers as the usual trainer gets where nobody says otherwise: one a core, 8 at most."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


def missing_torchvision() -> str | None:
    """Why there is no usual trainer here; None where there is one."""
    return None if importlib.util.find_spec("torchvision") else "the usual trainer needs torchvision"


class PILImages(Dataset[tuple[Tensor, int]]):
    """A data set as torchvision's: an image becomes a PIL image, is transformed, and is returned with its label."""

    def __init__(self, split: Split, recipe: Recipe) -> None:
        from torchvision import transforms  # here, since importing it takes seconds

        self.images = split.train.images.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # (N, H, W, C), as CIFAR10's
        self.labels = split.train.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(self.images.shape[1], padding=recipe.crop_padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(split.normalisation.mean, split.normalisation.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class UsualTrainer:
    """Trains a network of one exit, step by step, on the batches of a loader whose workers never stop.

    The loader starts once, at the first step, since a real epoch is long enough to hide its start. Its workers stay two
    batches each ahead and wait while others are timed, so timing n steps includes the work on n batches, but for those
    that were ready.

    Args:
        steps: number of steps that it can take in all.
    """

    def __init__(
        self, network: Network, split: Split, recipe: Recipe, *, precision: Precision, workers: int, steps: int
    ) -> None:
        self.network = network.train().to(memory_format=torch.channels_last)
        self.device, self.precision = split.train.labels.device, precision
        images = PILImages(split, recipe)
        sampler = RandomSampler(images, num_samples=(steps + 1) * recipe.batch_size)
        self.loader: DataLoader[Any] = DataLoader(
            images,
            batch_size=recipe.batch_size,
            sampler=sampler,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            drop_last=True,
        )
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )

    @cached_property
    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All batches that it trains on."""
        return iter(self.loader)

    def train(self, steps: int) -> float:
        """Train for some steps; returns the mean loss."""
        total = torch.zeros((), device=self.device)
        for _ in range(steps):
            images, labels = next(self.batches)
            images = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            labels = labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                loss = self.criterion(self.network(images)[-1], labels)
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return float(total) / steps
