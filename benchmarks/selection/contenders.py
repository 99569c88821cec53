"""Contenders: what can be selected of a run, its exits and its early-exit policies, with their stored predictions."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.certifying.exits_file import ExitPolicy, read_policies
from benchmarks.selection.comparable_runs import Asked
from benchmarks.selection.contender import Contender
from compress.ensemble_exit import ENSEMBLE, ExitName
from compress.errors import UsageError
from compress.inference import leave, leaving_macs, mean_macs, network_at
from compress.network_cost import cost as cost_of
from compress.network_cost import exit_costs, part_costs
from compress.networks import Network, digest_of_weights
from compress.runs import PREDICTIONS, Run, load

AGREEMENT = 0.005  # stored logits are rounded to float16, which changes an image or two; more is another run's file


def contenders_of(asked: Asked) -> tuple[list[Contender], list[str]]:
    """All contenders of the runs, and a line on everything that is damaged or does not fit, which is skipped.

    Skipped, too, are runs whose validation labels differ from those of most runs, as images are paired by position.
    """
    found: list[tuple[str, list[Contender]]] = []
    skipped: list[str] = []
    for run, exits in asked.values():
        try:
            labels, logits = read_validation(run)
            digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()
            found.append((digest, list(_of_run(run, exits, labels, logits, skipped))))
        except UsageError as error:
            skipped.append(str(error))
    [(shared, _)] = Counter(digest for digest, _ in found).most_common(1) or [("", 0)]
    skipped += [
        f"run {each[0].run.id}: {PREDICTIONS} is on other validation images, or in another order"
        for digest, each in found
        if digest != shared and each
    ]
    return [contender for digest, each in found if digest == shared for contender in each], skipped


def _of_run(
    run: Run, exits: set[ExitName], labels: NDArray[Any], logits: NDArray[Any], skipped: list[str]
) -> Iterable[Contender]:
    """The contenders of a run; a policy that does not fit its weights is skipped with a line."""
    network = load(run)
    costs = exit_costs(network)
    right = logits.argmax(axis=-1) == labels
    every = list(zip(run.exits, costs, right, strict=True))
    if run.ensemble:
        averaged = cost_of(network_at(run, network, ENSEMBLE))
        every.append((run.ensemble, averaged, _mean(run.ensemble, logits).argmax(axis=-1) == labels))
    for row, cost, of_exit in every:
        if not exits or row["exit"] in exits:
            sizes: dict[str, Any] = {"macs": cost.macs, "params": cost.params, "bytes": cost.bytes}
            yield Contender(run=run, exit=row["exit"], val_accuracy=row["val_accuracy"], right=of_exit, **sizes)
    policies = [] if exits else read_policies(run)
    weights = digest_of_weights(network) if policies else ""
    for early in policies:
        if early.policy.weights == weights:
            yield _with_policy(run, early, network, logits, right)
        else:
            skipped.append(f"run {run.id}: its early-exit policy is for other weights; compress exits {run.id}")


def _mean(row: dict[str, Any], logits: NDArray[Any]) -> NDArray[Any]:
    """The logits `(N, classes)` of an ensemble, from those of every exit."""
    weights = np.array(row["weights"])
    return np.asarray(np.tensordot(weights, logits[-len(weights) :].astype(float), axes=1))


def _with_policy(
    run: Run, early: ExitPolicy, network: Network, logits: NDArray[Any], right: NDArray[np.bool_]
) -> Contender:
    """The run's network with an early-exit policy, as the policy decides on the stored logits."""
    left = leave(logits, early.policy)
    parts = part_costs(network).values()
    by_policy = right[left - 1, np.arange(len(left))]
    return Contender(
        run=run,
        exit=len(run.exits),
        early=early,
        macs=mean_macs(left, leaving_macs(network)),
        params=sum(part.params for part in parts),
        bytes=sum(part.bytes for part in parts),
        val_accuracy=float(by_policy.mean()),
        right=by_policy,
    )


def read_validation(run: Run) -> tuple[NDArray[Any], NDArray[Any]]:
    """The labels `(N,)` of the run's validation images and their logits `(exits, N, classes)`, float16.

    Raises:
        UsageError: the file is missing or corrupt, or disagrees with the run's record.
    """
    images = int(run.record.data["split"]["validation"])
    shape = (len(run.exits), images, run.spec.classes)
    try:
        with np.load(run.path / PREDICTIONS, allow_pickle=False) as arrays:
            labels, logits = arrays["validation_labels"], arrays["validation_logits"]
    except FileNotFoundError as error:
        raise UsageError(f"run {run.id}: {PREDICTIONS} is missing in {run.path}: run it again") from error
    except Exception as error:  # of any kind: the archive may be damaged anywhere
        raise UsageError(f"run {run.id}: {PREDICTIONS} is corrupt: {error}") from error
    if labels.shape != (images,) or logits.shape != shape:
        raise UsageError(f"run {run.id}: {PREDICTIONS} is another run's: logits {logits.shape}, not {shape}")
    accuracies = np.array([exit["val_accuracy"] for exit in run.exits], dtype=float)
    stored = (logits.argmax(axis=-1) == labels).mean(axis=-1)
    if not np.all(np.abs(stored - accuracies) <= max(AGREEMENT, 2 / images)):
        raise UsageError(f"run {run.id}: {PREDICTIONS} has other accuracies than its record")
    return labels, logits
