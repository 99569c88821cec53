"""Exit ensembles: how the last exits of a trained network are averaged, and what that gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from torch import Tensor

from compress.ensemble_exit import ENSEMBLE
from compress.network_cost import cost
from compress.networks import Ensemble, Network, mean_of
from compress.training.evaluation import accuracies, cross_entropies

DIGITS = 6  # of a weight: those behind depend on the CPU
Predicted = dict[str, tuple[Tensor, Tensor]]  # logits (exits, N, classes) and labels (N,) of every part


def fit_weights(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, ...]:
    """The weights whose mean of logits has the least cross-entropy: a softmax, so from 0 to 1, with the sum 1.

    The cross-entropy is convex in the weights. The search begins with equal ones.

    Args:
        logits: `(exits, N, classes)`, of held-out images.
        labels: `(N,)`.
    """
    logits = logits.astype(np.float64)
    right = logits[:, np.arange(len(labels)), labels]  # (exits, N)

    def objective(scores: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        weights = softmax(scores)
        mean = np.tensordot(weights, logits, axes=1)  # (N, classes)
        loss = float((logsumexp(mean, axis=-1) - weights @ right).mean())
        slopes = (np.einsum("enc,nc->en", logits, softmax(mean, axis=-1)) - right).mean(axis=1)  # by the weights
        return loss, weights * (slopes - weights @ slopes)

    found = softmax(minimize(objective, np.zeros(len(logits)), jac=True, method="L-BFGS-B").x)
    rounded = [round(float(weight), DIGITS) for weight in found[:-1]]
    return (*rounded, round(1 - sum(rounded), DIGITS))


def ensemble_of(network: Network, count: int, predicted: Predicted) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`results.ensemble` of a record for the last `count` exits, and the mean logits `(N, classes)` of every part.

    The weights are fitted on the part ``validation``; ``test`` is evaluated alone.
    """
    logits, labels = predicted["validation"]
    weights = fit_weights(logits[-count:].numpy(force=True), labels.numpy(force=True))
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
    return row, means
