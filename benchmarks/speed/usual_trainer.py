"""Usual trainer: training as in tutorials, with PIL images one by one, a DataLoader with workers, fp32, NCHW."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from compress.data import Split
from compress.networks import Network
from compress.recipes import Recipe


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

    The loader starts once, before anything is timed, since a real epoch is long enough to hide its start. Its workers
    stay a few batches ahead and wait while others are timed, so timing n steps includes the work on n batches.
    """

    def __init__(self, network: Network, split: Split, recipe: Recipe, *, workers: int, steps: int) -> None:
        self.network, self.device = network.train(), split.train.labels.device
        images = PILImages(split, recipe)
        sampler = RandomSampler(images, num_samples=(steps + 1) * recipe.batch_size)
        loader: DataLoader[Any] = DataLoader(
            images, batch_size=recipe.batch_size, sampler=sampler, num_workers=workers, drop_last=True
        )
        self.batches: Iterator[tuple[Tensor, Tensor]] = iter(loader)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )

    def train(self, steps: int) -> None:
        """Train for some steps."""
        total = 0.0  # tutorials sum up the loss, which waits for the device after every step
        for _ in range(steps):
            images, labels = next(self.batches)
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = self.criterion(self.network(images)[-1], labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
