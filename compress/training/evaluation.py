"""Evaluation: predictions of a network in fp32, accuracies and cross-entropies."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compress.data import Normalisation, Part, in_order, normalise
from compress.hardware import repeatable
from compress.network_cost import cross_check, exit_costs
from compress.networks import Network, evaluating

BATCH, PIXELS = 250, 2_000_000  # images of a batch; on a GPU as many as have so many pixels, if that is more
UNEVEN = 1.5  # training or test images of the largest class, as a multiple of those of the smallest
MOST_CLASSES = 100  # of a confusion matrix in a record; predictions give larger ones


def predict(network: Network, part: Part, normalisation: Normalisation) -> Tensor:
    """Logits `(exits, N, classes)` in fp32 of a part's N images, in eval mode; restores the network's mode."""
    exits, classes = len(network.spec.exits), network.spec.classes
    logits = torch.empty(exits, len(part), classes, device=part.labels.device)
    indices = in_order(len(part), evaluated_at_once(logits.device, part.shape))
    with repeatable(logits.device), evaluating(network), torch.inference_mode():
        for chosen, images in zip(indices, part.batches(indices), strict=True):
            logits[:, chosen[0] : chosen[-1] + 1] = torch.stack(network(normalise(images, normalisation)))
    return logits


def evaluated_at_once(device: torch.device, shape: tuple[int, int, int]) -> int:
    """How many images `(C, H, W)` are evaluated at once."""
    return BATCH if device.type == "cpu" else max(BATCH, PIXELS // (shape[1] * shape[2]))


def accuracies(logits: Tensor, labels: Tensor) -> list[float] | None:
    """The accuracy of every exit, a fraction, from logits `(exits, N, classes)`; None without images."""
    if not len(labels):
        return None
    shares: list[float] = (logits.argmax(dim=-1) == labels).double().mean(dim=-1).tolist()
    return shares


def cross_entropies(logits: Tensor, labels: Tensor) -> list[float] | None:
    """The mean cross-entropy (nats) of every exit, from logits `(exits, N, classes)`; None without images."""
    if not len(labels):
        return None
    means: list[float] = torch.stack([functional.cross_entropy(exit, labels) for exit in logits]).tolist()
    return means


def class_rows(logits: Tensor, labels: Tensor, trained: Tensor) -> dict[str, Any] | None:
    """What `results.per_class` of a record holds; None where classes have about as many images each.

    Classes are uneven if the largest has at least `UNEVEN` times the images of the smallest, among training or test
    images. Balanced accuracy is the mean of the accuracies of the classes that have test images.

    Args:
        logits: of the test images, `(exits, N, classes)`.
        labels: of the test images, int64 `(N,)`.
        trained: labels of the training images, int64 `(M,)`.
    """
    classes = logits.shape[-1]
    train, test = (torch.bincount(part, minlength=classes) for part in (trained, labels))
    if not len(labels) or all(counts.max() < UNEVEN * counts.min() for counts in (train, test)):
        return None
    predicted = logits.argmax(dim=-1)  # (exits, N)
    right = torch.stack([torch.bincount(labels[exit == labels], minlength=classes) for exit in predicted])
    shares, tested = right.double() / test, test > 0  # not a number for a class without test images
    confusion = None
    if classes <= MOST_CLASSES:
        pairs = torch.bincount(labels * classes + predicted[-1], minlength=classes**2)
        confusion = pairs.view(classes, classes).tolist()
    return {
        "train_images": train.tolist(),
        "test_images": test.tolist(),
        "balanced_accuracy": shares[:, tested].mean(dim=1).tolist(),
        "accuracy": [[value if value == value else None for value in exit] for exit in shares.tolist()],
        "confusion": confusion,
    }


def exit_rows(network: Network, parts: dict[str, tuple[Tensor, Tensor]]) -> list[dict[str, Any]]:
    """The rows of `results.exits` in a record, from the (logits, labels) of ``validation`` and ``test``.

    Raises:
        UsageError: fvcore and torch count different MACs.
    """
    cross_check(network)
    blank = [None] * len(network.spec.exits)
    validation = accuracies(*parts["validation"]) or blank
    test, loss = accuracies(*parts["test"]) or blank, cross_entropies(*parts["test"]) or blank
    return [
        {
            "exit": number,
            "block": exit.block,
            "depth": depth,
            "macs": cost.macs,
            "params": cost.params,
            "activations": cost.activations,
            "val_accuracy": val_accuracy,
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
        }
        for number, (exit, depth, cost, val_accuracy, test_accuracy, test_loss) in enumerate(
            zip(network.spec.exits, network.spec.depths, exit_costs(network), validation, test, loss, strict=True),
            start=1,
        )
    ]
