"""References: finished runs that another run starts from, learns from, or is compared with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from compress.console import console
from compress.data import Dataset
from compress.errors import UsageError
from compress.networks import Architecture, Spec, code_digest, display_name, spec_of
from compress.recipes import Recipe
from compress.runs import RECORD, Run, find_run, finished_runs
from compress.training.distributed import current_world
from compress.training.plan import batch_for_few, published_normalisation


def found_reference(spec: Spec, dataset: Dataset, recipe: Recipe, seed: int, runs: Path) -> Run | None:
    """The newest finished run for which `is_reference` holds; its id is printed. None if there is none."""
    return current_world().on_leader(lambda: _newest_reference(spec, dataset, recipe, seed, runs))


def is_reference(run: Run, spec: Spec, dataset: Dataset, recipe: Recipe, seed: int) -> bool:
    """Whether a run trained this network (of one exit) by plain BP with this data, split, recipe and seed."""
    config = run.record.config
    wanted = {"kind": "train", "method": "bp", "spec": spec.to_json(), "recipe": recipe.to_json(), "seed": seed}
    wanted |= {"teacher": None, "initial": None, "augmentable": dataset.augmentable, "data": dataset.digest}
    wanted["normalisation"] = published_normalisation(dataset)
    return wanted.items() <= config.items() and config.get("batch_size") == batch_for_few(recipe, dataset)


def trunk_run(trunk: str | Path | Run, plain: Spec, dataset: Dataset, recipe: Recipe, runs: Path) -> Run:
    """The run whose trunk is frozen and gets exits.

    Args:
        trunk: the run's id or path.
        plain: spec that the run's network must have: the trunk with the last exit alone.

    Raises:
        UsageError: no such run, trained on other data, or on another network.
    """
    run = find_run(trunk, runs)
    check_same_data(run, dataset, recipe)
    if run.spec != plain:
        raise UsageError(
            f"trunk {run.id}: its blocks are not those of a plain {display_name(plain)} for {plain.classes} classes: "
            f"name a run by plain BP of that, or give exits by the numbers of its {len(run.spec.blocks)} blocks"
        )
    return run


def plain_spec(spec: Spec, image_size: int | None) -> Spec:
    """The spec of the network of one exit whose trunk a multi-exit network has.

    Raises:
        UsageError: the architecture's name alone builds another trunk (other segments, in a foreign network).
    """
    plain = dataclasses.replace(spec, exits=spec.exits[-1:])
    by_name = spec_of(
        Architecture(spec.arch, image_size=image_size), input_shape=spec.input_shape, classes=spec.classes
    )
    if by_name != plain:
        raise UsageError(
            f"frozen-trunk: {spec.arch} has {len(by_name.blocks)} blocks by nature: give exits by their numbers"
        )
    return plain


def check_same_data(run: Run, dataset: Dataset, recipe: Recipe) -> None:
    """Refuse a run that was trained on other images, or on images that the recipe holds out.

    Raises:
        UsageError: the shape of the images, the images, their normalisation or their split differ.
    """
    record, trained = run.record, run.record.config["recipe"]
    use = f"use --dataset {record.data['name']}"
    if run.spec.input_shape != dataset.input_shape:
        raise UsageError(
            f"run {run.id} takes images (C, H, W) {run.spec.input_shape}, {dataset.name} has "
            f"{dataset.input_shape}: {use}, with --image-size if its images were resized"
        )
    if record.data["digest"] != dataset.digest:
        raise UsageError(
            f"run {run.id} was trained on {record.data['name']}, whose images are not {dataset.name}'s: {use}"
        )
    if any(trained[key] != getattr(recipe, key) for key in ("validation", "calibration", "split_seed")):
        raise UsageError(
            f"run {run.id} was trained on another split of {dataset.name} (recipe {trained['name']}) than recipe "
            f"{recipe.name} holds out, so its validation images would not be unseen: use --recipe {trained['name']}"
        )
    if record.config["normalisation"] != published_normalisation(dataset):
        how = (
            f"with --normalisation {run.normalisation}" if record.config["normalisation"] else "and no --normalisation"
        )
        raise UsageError(f"run {run.id} takes images normalised otherwise than {dataset.name}'s: {use}, {how}")


def of_this_code(run: Run) -> bool:
    """Whether a foreign network's code is the one that a run was trained with; true of networks of this package."""
    spec = Spec.from_json(run.record.config["spec"])
    return not spec.foreign or run.record.config.get("code") in (None, code_digest(spec))


def _newest_reference(spec: Spec, dataset: Dataset, recipe: Recipe, seed: int, runs: Path) -> Run | None:
    found = [run for run in finished_runs(runs)[0] if is_reference(run, spec, dataset, recipe, seed)]
    found = [run for run in found if of_this_code(run)]
    if not found:
        return None
    newest = max(found, key=lambda run: (run.path / RECORD).stat().st_mtime)
    console.print(f"the reference is {newest.id}")
    return newest
