"""The network of one of a run's predictions: cut at an exit, or the ensemble of its last exits."""

from __future__ import annotations

from compress.ensemble_exit import ENSEMBLE, ExitName
from compress.errors import UsageError
from compress.networks import Ensemble, Network, cut
from compress.runs import Run


def network_at(run: Run, whole: Network, exit: ExitName) -> Network:
    """The network that answers at an exit (1-based) of a run, or as its ensemble, on its own.

    Args:
        whole: the run's network.

    Raises:
        UsageError: the run has no such exit, or no ensemble.
    """
    if exit != ENSEMBLE:
        return cut(whole, exit)
    if run.ensemble is None:
        raise UsageError(f"run {run.id} has no ensemble: compress train-mwbp --ensemble 3 makes one")
    return Ensemble(whole, run.ensemble["weights"])
