"""Comparable runs: finished runs whose validation images are the same, so that their accuracies compare."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from compress.data.catalogue import FOLDER, find_folder
from compress.ensemble_exit import ExitName
from compress.errors import UsageError, nearest
from compress.runs import RECORD, Run, finished_runs, run_and_exit
from compress.stores.mirror import refresh

Name = str | os.PathLike[str]
Asked = dict[str, tuple[Run, set[ExitName]]]  # by id: a run, and its exits that were named; all of them where none was


def runs_asked_for(names: Iterable[Name], directory: Path) -> tuple[Asked, list[str]]:
    """The runs that names mean, else all finished ones under a directory, and a line on each that is skipped.

    A name is RUN, RUN:EXIT, or the path of another directory of runs.

    Raises:
        UsageError: a name means no finished run or no exit of it, or there is no finished run at all.
    """
    asked: Asked = {}
    skipped: list[str] = []
    for name in names:
        if not os.path.exists(Path(name) / RECORD) and any_there(Path(name)):
            within, lines = runs_asked_for([], Path(name))
            asked, skipped = asked | within, [*skipped, *lines]
            continue
        run, exit = run_and_exit(name, directory)
        known = asked.get(run.id)
        whole = exit is None or (known is not None and not known[1])
        asked[run.id] = (run, set() if whole or exit is None else (known[1] if known else set()) | {exit})
    if asked:
        return asked, skipped
    found, skipped = finished_runs(directory)
    if not found:
        raise none_there(directory, skipped)
    return {run.id: (run, set()) for run in found}, skipped


def none_there(directory: Path, skipped: Iterable[str] = ()) -> UsageError:
    """The error that there is no finished run to choose from."""
    others = "".join(f"; {line}" for line in list(skipped)[:1])
    return UsageError(
        f"no finished run under {directory} (--runs names another directory) to choose from{others}; train one: "
        "compress train-mwbp --dataset folder:PATH"
    )


def any_there(directory: Path) -> bool:
    """Whether a directory has runs, finished or not."""
    refresh(directory)
    return os.path.isdir(directory) and any(directory.glob(f"*/{RECORD}"))


def comparable(asked: Asked, dataset: str | None) -> tuple[Asked, list[str]]:
    """The runs on one data set that held out validation images, and a line on every run on it that held out none.

    Runs on the same images, by their digest, are on one data set, even if a folder had another place.

    Args:
        dataset: the name of the data set, of class folders by any spelling of their path; None where all have the same.

    Raises:
        UsageError: no run is on the data set, none held out validation images, or several data sets or splits are left.
    """
    names = {run.record.data["name"] for run, _ in asked.values()}
    if dataset is not None and dataset not in names and dataset.startswith(FOLDER):
        with contextlib.suppress(UsageError):  # it is not here, as on a machine that has the runs alone
            dataset = f"{FOLDER}{find_folder(dataset, announce=False)}"
    if dataset is not None and dataset not in names:
        raise UsageError(f"--dataset {dataset}: no run is on it; {nearest(dataset, sorted(names))}")
    data = {id: run.record.data for id, (run, _) in asked.items()}
    digests = {each["digest"] for each in data.values() if dataset in (None, each["name"])}
    of_data = {id: each for id, each in asked.items() if data[id]["digest"] in digests}
    kept = {id: each for id, each in of_data.items() if each[0].record.data["split"]["validation"]}
    skipped = [
        f"run {run.id}: it held out no validation images (recipe {run.record.config['recipe']['name']})"
        for id, (run, _) in of_data.items()
        if id not in kept
    ]
    if not kept:
        raise UsageError(f"{'; '.join(skipped)}: there is nothing to select on; train with another --recipe")
    _check_same_images([run for run, _ in kept.values()])
    return kept, skipped


def _check_same_images(runs: Iterable[Run]) -> None:
    """Raise UsageError if the runs have different data or splits."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([run.record.data["digest"], run.record.data["split"]], sort_keys=True), []).append(
            run
        )
    if len(groups) == 1:
        return
    listed = "; ".join(
        f"{first.record.data['name']} ({first.record.data['split']['validation']:,} validation images, "
        f"{first.record.data['digest'][:8]}): {len(group)} run{'s' * (len(group) > 1)}, such as {first.id}"
        for group in groups.values()
        for first in group[:1]
    )
    names = {group[0].record.data["name"] for group in groups.values()}
    mend = "--dataset NAME, or name the runs" if len(names) > 1 else "name the runs to choose among"
    raise UsageError(f"accuracies on different images do not compare: {mend}. There are: {listed}")
