"""Probe: measure what every block of finished runs has learnt, and write each run's `probe.json`.

The measures are those of `representations` and, on request, `retraining`. Probes and their ridge strengths are fitted
on training images; reported values are measured on validation images, on which nothing is selected. Test images are
never used.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.probing.linear_probe import channel_moments, pooled_features, probe_predictions
from benchmarks.probing.probe_file import SCHEMA_VERSION, read_probe
from benchmarks.probing.representations import gradient_shares, similarities_to_next, skip_drops
from benchmarks.probing.retraining import frozen_lengths, retrained_accuracy, retraining_recipe
from benchmarks.statistics.scores import pack
from compress.console import console
from compress.data import Dataset, Normalisation, Part, Split, in_order, normalise
from compress.documents import refuse_read_only
from compress.errors import UsageError, checked
from compress.hardware import describe, repeatable, resolve_device
from compress.networks import Network
from compress.recipes import Recipe
from compress.runs import PROBE, Run, load, write_json
from compress.training import data_of
from compress.training.evaluation import predict
from compress.training.plan import split_by

BATCH = 125
FEWEST = 2  # training images, since the images that choose a probe's ridge strength are not those it is fitted on
SEEN_SHARE = 0.1  # of the training images to measure on, where the recipe holds out no validation images


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The largest number of images for each measure; drawn at random, equal for all runs.

    Attributes:
        fit: training images for the linear probes and their ridge strength.
        moments: images of `fit` that standardise the features.
        held_out: validation images to measure the probes on.
        similarity: images of `held_out` for CKA.
        skip: images of `held_out` for skipping blocks.
        gradient_batches: batches of `gradient_batch` training images for the gradient.
    """

    fit: int = 4000
    moments: int = 256
    held_out: int = 2000
    similarity: int = 256
    skip: int = 1000
    gradient_batches: int = 4
    gradient_batch: int = 128


@checked
def probe(
    runs: Sequence[Run],
    *,
    retrain: bool = False,
    epochs: int | None = None,
    data_dir: Path | None = None,
    device: str = "auto",
    sample: Sample | None = None,
) -> list[dict[str, Any]]:
    """Probe every block of every run and write each run's `probe.json`; returns the files' contents, run by run.

    Earlier measurements on as many images, and finished retrainings, are kept and not made again.

    Args:
        runs: finished runs on the same data and split, so that they compare.
        retrain: whether to freeze a quarter, half and three quarters of the blocks and train the rest anew.
        epochs: number of epochs of retraining; by default the run's own.
        data_dir: where to look for the data first.

    Raises:
        UsageError: a run is not finished, runs differ in data or split, or the data here are not the runs'.
    """
    if epochs is not None and (epochs < 1 or not retrain):
        raise UsageError(f"epochs {epochs}: how long to retrain, 1 or more, so only together with --retrain")
    _check_comparable(runs)
    sample, where = sample or Sample(), resolve_device(device)
    dataset = data_of(runs[0], data_dir)
    parts, seen = _parts_of(runs[0], dataset, where)
    documents = []
    for run in runs:
        document = read_probe(run)
        if document and document["sample"] == asdict(sample):
            console.print(f"{run.id}: probed before, {run.path / PROBE}")
        else:
            retrained = document["retrained"] if document else []
            document = _measure(run, parts, sample, seen_in_training=seen) | {"retrained": retrained}
            write_json(run.path / PROBE, document)
        if retrain:
            _retrain(run, document, parts, retraining_recipe(run, epochs), augment=dataset.augmentable)
        documents.append(document)
    return documents


def _check_comparable(runs: Sequence[Run]) -> None:
    if not runs:
        raise UsageError("probe: name the runs to probe (compress report lists them)")
    for run in runs:
        if run.record.status != "finished":
            raise UsageError(f"run {run.id} is {run.record.status}, not finished: {run.record.command}")
        if any(run.record.data[key] != runs[0].record.data[key] for key in ("digest", "split")):
            raise UsageError(f"runs {runs[0].id} and {run.id} have different data or splits: probe them apart")
        refuse_read_only(run.path)


def _parts_of(run: Run, dataset: Dataset, device: torch.device) -> tuple[Split, bool]:
    """The run's split, on the device, and whether its validation images were seen in training.

    They were where the recipe holds out none: then some training images are kept from the probes instead.
    """
    recipe = Recipe.from_json(run.record.config["recipe"])
    parts = split_by(recipe, dataset)
    if seen := not len(parts.validation):
        with contextlib.suppress(UsageError):  # some class has no image to spare
            parts = split_by(dataclasses.replace(recipe, validation=SEEN_SHARE), dataset)
    if not len(parts.validation) or len(parts.train) < FEWEST:
        raise UsageError(
            f"run {run.id}: {dataset.name} has {len(dataset.train)} training images, {len(parts.train)} to train on, "
            "too few to fit probes on some and measure them on others: six, with two of a class, are enough"
        )
    return dataclasses.replace(
        parts,
        train=parts.train.to(device),
        validation=parts.validation.to(device),
        normalisation=run.normalisation,
    ), seen


def _measure(run: Run, parts: Split, sample: Sample, *, seen_in_training: bool) -> dict[str, Any]:
    """The content of `probe.json`, but for retrainings."""
    console.print(f"{run.id}: probing {len(run.spec.blocks)} blocks")
    network = load(run).to(parts.train.labels.device).to(memory_format=torch.channels_last)
    training, held_out = _drawn(parts.train, sample.fit), _drawn(parts.validation, sample.held_out)
    with repeatable(training.labels.device):  # as `predict` computes
        blocks = _block_rows(run, network, training, held_out, sample)
    logits = predict(network, held_out, run.normalisation)[-1]
    return {
        "schema_version": SCHEMA_VERSION,
        "sample": asdict(sample),
        "images": {
            "part": "training" if seen_in_training else "validation",
            "seen_in_training": seen_in_training,
            "held_out": len(held_out),
            "fit": len(training),
            "skip": min(len(held_out), sample.skip),
        },
        "accuracy": float((logits.argmax(dim=1) == held_out.labels).double().mean()),
        "blocks": blocks,
        "environment": describe(logits.device),
    }


def _block_rows(run: Run, network: Network, training: Part, held_out: Part, sample: Sample) -> list[dict[str, Any]]:
    """The entry of every block in `probe.json`."""
    batches = partial(_batches, normalisation=run.normalisation)
    [(images, _)] = batches(training, limit=sample.moments, size=sample.moments)
    moments = channel_moments(network, images)
    fitted = pooled_features(network, batches(training), moments)
    unseen = pooled_features(network, batches(held_out), moments)
    probes = [
        probe_predictions(features, training.labels, others, network.spec.classes)
        for features, others in zip(fitted, unseen, strict=True)
    ]
    size = sample.gradient_batch
    shares = gradient_shares(network, batches(training, limit=size * sample.gradient_batches, size=size))
    [(images, _)] = batches(held_out, limit=sample.similarity, size=sample.similarity)
    similar = similarities_to_next(network, images)
    drops = skip_drops(network, batches(held_out, limit=sample.skip))
    depths = network.spec.with_exits(range(1, len(network.blocks) + 1)).depths  # of an exit after every block
    return [
        {
            "block": number,
            "depth": depth,
            "features": fitted[number - 1].shape[1],
            "probe_accuracy": float((predicted == held_out.labels).double().mean()),
            "gradient_share": share,
            "cka_to_next": similarity,
            "skip_drop": drop,
            "ridge": strength,
            "right": pack((predicted == held_out.labels).cpu().numpy()),
        }
        for number, (depth, (predicted, strength), share, similarity, drop) in enumerate(
            zip(depths, probes, shares, similar, drops, strict=True), start=1
        )
    ]


def _drawn(part: Part, count: int) -> Part:
    """At most `count` images in a fixed random order."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(part)))
    return part.subset(order[:count])


def _batches(
    part: Part, *, normalisation: Normalisation, limit: int | None = None, size: int = BATCH
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `limit` images, all by default, and their labels, normalised batch by batch."""
    chosen = in_order(len(part) if limit is None else min(limit, len(part)), size)
    for indices, images in zip(chosen, part.batches(chosen), strict=True):
        yield normalise(images, normalisation).contiguous(memory_format=torch.channels_last), part.labels[indices]


def _retrain(run: Run, document: dict[str, Any], parts: Split, recipe: Recipe, *, augment: bool) -> None:
    """Make every retraining that the document lacks, add it and write the file."""
    done = {(row["epochs"], row["block"]) for row in document["retrained"]}
    for frozen in frozen_lengths(len(run.spec.blocks)):
        if (recipe.epochs, frozen) in done:
            continue
        title = f"{run.id} behind {frozen} frozen blocks"
        accuracy = retrained_accuracy(run, frozen, parts, recipe, augment=augment, title=title)
        document["retrained"].append({"block": frozen, "epochs": recipe.epochs, "retrained_accuracy": accuracy})
        write_json(run.path / PROBE, document)
