"""`select`: the best network of finished runs within limits, chosen on validation images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.selection.choice import MAX_DROP, accuracy, by_cost, choose
from benchmarks.selection.comparable_runs import comparable, runs_asked_for
from benchmarks.selection.contender import Contender
from benchmarks.selection.contenders import contenders_of
from benchmarks.selection.explanation import missed
from benchmarks.selection.selected import Selection
from benchmarks.selection.selection_limits import Limits
from benchmarks.selection.serving import Serving
from benchmarks.selection.serving_trial import Trial
from compress.console import console
from compress.data import Split
from compress.errors import UsageError, checked
from compress.export.held_out import open_held_out
from compress.recipes import Recipe
from compress.runs import Run
from compress.training import data_of
from compress.training.plan import split_by

NO_LIMITS, SERVING = Limits(), Serving()


@checked
def select(
    runs: Sequence[str | os.PathLike[str]] = (),
    *,
    limits: Limits = NO_LIMITS,
    serving: Serving = SERVING,
    max_drop: float = MAX_DROP,
    dataset: str | None = None,
    directory: str | os.PathLike[str] = "runs",
    data_dir: Path | None = None,
) -> Selection:
    """Choose among all exits, ensembles and early-exit policies of finished runs.

    A policy is for the engine, precision and device that it was chosen for, and left out where another one serves.
    Chosen is the most accurate on validation images within the limits, or the cheapest of those as good, see
    `choice.as_good`; with a least accuracy the cheapest that has it. Test images take no part. Latency is measured now,
    accuracy too unless in fp32, and only of what is within the other limits.

    Args:
        runs: RUN or RUN:EXIT; all finished runs under `directory` where none is named.
        max_drop: the most accuracy, a fraction, that is given up for lower costs where the images cannot tell the
            difference.
        dataset: the name of the data set, where the runs have several.
        data_dir: where to look first for the images of the runs.

    Raises:
        UsageError: there is no run, runs have different images, the engine cannot serve here, or images that are needed
            are not here.
    """
    if not 0 <= max_drop <= 1:
        raise UsageError(f"max-drop {max_drop}: a fraction of accuracy, from 0 to 1")
    measures = serving.precision != "fp32"
    engine = serving.start() if measures or limits.seconds is not None else None
    asked, skipped = runs_asked_for(runs, Path(directory))
    asked, others = comparable(asked, dataset)
    found, damaged = contenders_of(asked)
    found = [replace(each, left_out=each.unserved(serving)) for each in found]
    skipped = [*skipped, *others, *damaged]
    if not found:
        raise UsageError(f"no run can be chosen from: {'; '.join(skipped)}")
    noise, tested = 0.0, None
    with TemporaryDirectory() as folder:
        if engine is not None:
            images = _images(found, serving, data_dir)
            calibrated = open_held_out(_runs(found), data_dir) if serving.precision == "int8" else None
            trial = Trial(serving=serving, engine=engine, folder=Path(folder), images=images, held_out=calibrated)
            found, noise = _measured(found, trial, limits), trial.noise
        found = _within(found, limits)
        chosen = choose(found, limits, max_drop)
        if chosen is not None:  # nothing is chosen after this
            anew = measures and chosen.early is None  # a policy's is recorded as what will serve answers
            tested = trial.test_accuracy(chosen) if anew else _recorded_test_accuracy(chosen)
    return Selection(
        contenders=sorted(found, key=lambda each: (bool(each.left_out), -accuracy(each), by_cost(each, limits))),
        limits=limits,
        serving=serving,
        max_drop=max_drop,
        skipped=skipped,
        test_accuracy=tested,
        noise=noise,
    )


def _measured(found: Sequence[Contender], trial: Trial, limits: Limits) -> list[Contender]:
    """The contenders with what the limits need to know of them, measured only of those within the limits until then."""
    precision = trial.serving.precision
    if precision != "fp32":
        in_fp32 = precision != "int8"  # the size of the weights in the file: runtimes cast them themselves
        unknown = [replace(each, val_accuracy=None, bytes=each.bytes if in_fp32 else None) for each in found]
        found = _within(unknown, limits)
        networks = sum(not each.left_out for each in found)
        console.print(f"{precision}: accuracy of {networks} network{'s' * (networks != 1)} on validation images")
        found = [each if each.left_out else trial.with_accuracy(each) for each in found]
    found = _within(found, limits)
    open_to_choice = [each for each in found if not each.left_out]
    if limits.seconds is None or not open_to_choice:
        return found
    return [*(each for each in found if each.left_out), *trial.timed(open_to_choice)]


def _within(found: Sequence[Contender], limits: Limits) -> list[Contender]:
    """The contenders, those left out that miss a limit by what is known of them."""
    checked = [
        each if each.left_out else replace(each, misses=limits.misses(each.costs, each.val_accuracy)) for each in found
    ]
    return [replace(each, left_out=each.left_out or missed(each, limits)) for each in checked]


def _images(found: Sequence[Contender], serving: Serving, data_dir: Path | None) -> Split | None:
    """The images of the runs, where accuracy or early exit is measured on them.

    Raises:
        UsageError: accuracy is to be measured, and they are not here.
    """
    needed = serving.precision != "fp32"
    if not needed and all(each.early is None or each.left_out for each in found):
        return None
    try:
        run = found[0].run
        return split_by(Recipe.from_json(run.record.config["recipe"]), data_of(run, data_dir))
    except UsageError as error:
        if needed:
            raise
        console.print(f"early exit is left out: {error}")
        return None


def _runs(found: Sequence[Contender]) -> list[Run]:
    """The runs of the contenders, each once."""
    return list({each.run.id: each.run for each in found}.values())


def _recorded_test_accuracy(chosen: Contender) -> float:
    """The test accuracy in the record of the chosen one."""
    return float(chosen.early.test_accuracy if chosen.early else chosen.run.prediction(chosen.exit)["test_accuracy"])
