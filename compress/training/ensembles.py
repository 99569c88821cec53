"""Exit ensembles: how the last exits of a trained network are averaged, and what that gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compress.ensemble_exit import ENSEMBLE
from compress.network_cost import cost
from compress.networks import Ensemble, Network, mean_of
from compress.training.evaluation import accuracies, class_rows, cross_entropies

STEPS = 200  # of the search, at most
DIGITS = 6  # of a weight: those behind depend on the CPU
PRIOR = 10.0  # images' worth of pull towards equal weights: few images alone may do worse than the last exit
Predicted = dict[str, tuple[Tensor, Tensor]]  # logits (exits, N, classes) and labels (N,) of every part


def fit_weights(logits: Tensor, labels: Tensor, prior: float = PRIOR) -> tuple[float, ...]:
    """The weights whose mean of logits has the least cross-entropy, pulled a little towards equal ones.

    They are a softmax: from 0 to 1, with the sum 1. What is minimised is the sum of the images' cross-entropies minus
    `prior` times the mean logarithm of the weights, which is convex in them. The search, by L-BFGS in float64, begins
    with equal weights.

    Args:
        logits: `(exits, N, classes)`, of held-out images.
        labels: `(N,)`.
        prior: how many images the pull is worth.
    """
    logits, scores = logits.double(), logits.new_zeros(len(logits), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [scores], max_iter=STEPS, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = functional.cross_entropy(torch.tensordot(scores.softmax(dim=0), logits, dims=1), labels)
        value = value - prior / len(labels) * scores.log_softmax(dim=0).mean()
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    weights = [round(weight, DIGITS) for weight in scores.softmax(dim=0).tolist()]
    largest = weights.index(max(weights))
    weights[largest] = round(weights[largest] + 1 - sum(weights), DIGITS)  # of another, the rest might be negative
    return tuple(weights)


def ensemble_of(
    network: Network, count: int, predicted: Predicted, trained: Tensor
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`results.ensemble` of a record for the last `count` exits, and the mean logits `(N, classes)` of every part.

    The weights are fitted on the part ``validation``; ``test`` is evaluated alone. What the mean gains over the last
    exit is told on the part ``calibration``, which neither has seen.

    Args:
        trained: labels of the training images, int64 `(M,)`.
    """
    logits, labels = predicted["validation"]
    weights = fit_weights(logits[-count:], labels)
    means = {name: mean_of(list(part), weights) for name, (part, _) in predicted.items()}
    size, exits = cost(Ensemble(network, weights)), len(network.spec.exits)
    row = {
        "exit": ENSEMBLE,
        "exits": list(range(exits + 1 - count, exits + 1)),
        "weights": list(weights),
        **{"macs": size.macs, "params": size.params, "activations": size.activations},
    }
    for name, part, values in (
        ("val_accuracy", "validation", accuracies),
        ("test_accuracy", "test", accuracies),
        ("test_loss", "test", cross_entropies),
    ):
        found = values(means[part][None], predicted[part][1])
        row[name] = found[0] if found else None  # None without images
    unseen, its_labels = predicted["calibration"]
    both = accuracies(torch.stack([means["calibration"], unseen[-1]]), its_labels)
    row["calibration_gain"] = both[0] - both[1] if both else None
    if of_classes := class_rows(means["test"][None], predicted["test"][1], trained):
        row["per_class"] = of_classes
    return row, means
