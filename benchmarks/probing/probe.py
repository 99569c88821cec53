"""Probing finished runs: what every block has learnt (supervision vanishing), written to each run's `probe.json`.

The measures are those of `representations` and, on request, of `retraining`, beside this file. Probes and ridge
strengths are fitted on training images; what is reported is measured on validation images, on which nothing is
selected. Test images are never looked at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from benchmarks.probing.representations import (
    channel_moments,
    gradient_shares,
    pooled_features,
    probe_predictions,
    similarities_to_next,
    skip_drops,
)
from benchmarks.probing.retraining import frozen_lengths, retrained_accuracy, retraining_recipe
from compress.console import console, duration
from compress.data import Dataset, Normalisation, Part, Split, in_order, normalise, split
from compress.documents import read_kept
from compress.errors import UsageError, checked
from compress.hardware import describe, resolve_device
from compress.networks import Network, Spec
from compress.recipes import Recipe
from compress.records import Number, Share
from compress.runs import PROBE, Run, load, write_json
from compress.training import data_of
from compress.training.evaluation import predict

SCHEMA_VERSION = 1
BATCH = 125
MEND = "delete it, compress probe measures again"
FEWEST = 2  # training images: those that choose a probe's strength are not those that it is fitted on
SEEN_SHARE = 0.1  # of the training images, measured on where the recipe holds out no validation images


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How many images each measure takes, at most; chosen at random, the same for all runs.

    Attributes:
        fit: training images for the linear probes and their ridge strength.
        moments: of these, those that standardise the features.
        held_out: validation images to measure the probes on.
        similarity: of these, those for CKA.
        skip: of these, those for skipping blocks.
        gradient_batches: batches of training images for the gradient, of `gradient_batch` images each.
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
    """Probe every block of every run and write each run's `probe.json`; returns what these hold, run by run.

    What was measured before, on as many images, is kept and not measured again; so is every finished retraining.

    Args:
        runs: finished, on the same data and split, so that they can be compared.
        retrain: also freeze a quarter, half and three quarters of the blocks and train the rest anew.
        epochs: of retraining, instead of the run's own.
        data_dir: where to look for the data first.

    Raises:
        UsageError: a run is not finished, they differ in data or split, or the data that are here are not the runs'.
    """
    if epochs is not None and (epochs < 1 or not retrain):
        raise UsageError(f"epochs {epochs}: how long to retrain, 1 or more, so only together with --retrain")
    _check_comparable(runs)
    sample, where = sample or Sample(), resolve_device(device)
    dataset = data_of(runs[0], data_dir)
    parts, seen = _parts_of(runs[0], dataset, where)
    documents = []
    for run in runs:
        document = _measured_before(run, sample) or _measure(run, parts, sample, seen_in_training=seen)
        if retrain:
            _retrain(run, document, parts, retraining_recipe(run, epochs), augment=dataset.augmentable)
        documents.append(document)
    return documents


class Block(Struct, frozen=True, kw_only=True):
    """What was measured of one block."""

    block: Number
    depth: Number
    features: Number
    probe_accuracy: Share
    gradient_share: float
    cka_to_next: float | None
    skip_drop: float
    right: Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]


class Retrained(Struct, frozen=True, kw_only=True):
    """The accuracy of a retraining behind so many frozen blocks."""

    block: Number
    epochs: Number
    retrained_accuracy: Share


class Images(Struct, frozen=True, kw_only=True):
    """What was measured on."""

    part: str
    seen_in_training: bool
    held_out: Number
    fit: Number
    skip: Number


class Fields(Struct, frozen=True, kw_only=True):
    """What `probe.json` must be."""

    schema_version: Literal[1]
    sample: dict[str, int]
    images: Images
    accuracy: Share
    blocks: list[Block]
    retrained: list[Retrained]

    def __post_init__(self) -> None:
        for number, block in enumerate(self.blocks, start=1):
            if block.block != number or len(block.right) != 2 * -(-self.images.held_out // 8):
                raise UsageError(f"blocks[{number - 1}]: not block {number}, or right not of {self.images.held_out}")


def read_probe(run: Run) -> dict[str, Any] | None:
    """The run's `probe.json`, or None where there is none that can be read."""
    kept = read_kept(run.path / PROBE, Fields, MEND)
    if kept and len(kept[1].blocks) != len(run.spec.blocks):
        console.print(f"skipped: {run.path / PROBE} has {len(kept[1].blocks)} blocks, the run others; {MEND}")
        return None
    return kept[0] if kept else None


def pack(right: Tensor) -> str:
    """Bools `(images,)` as text, eight to two hexadecimal digits."""
    return np.packbits(right.cpu().numpy()).tobytes().hex()


def unpack(text: str, count: int) -> np.ndarray:
    """The `count` bools that `pack` wrote."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=count).astype(bool)


def _check_comparable(runs: Sequence[Run]) -> None:
    if not runs:
        raise UsageError("probe: name the runs to probe (compress report lists them)")
    for run in runs:
        if run.record.status != "finished":
            raise UsageError(f"run {run.id} is {run.record.status}, not finished: {run.record.command}")
    first = runs[0].record.data
    for run in runs:
        if (run.record.data["digest"], run.record.data["split"]) != (first["digest"], first["split"]):
            raise UsageError(f"runs {runs[0].id} and {run.id} have different data or splits: probe them apart")


def _parts_of(run: Run, dataset: Dataset, device: torch.device) -> tuple[Split, bool]:
    """The run's split, on the device, and whether its held-out images were seen in training.

    That is so where the recipe holds out no validation images: then some training images are kept from the probes.
    """
    recipe = Recipe.from_json(run.record.config["recipe"])
    held_out = partial(split, dataset, calibration=recipe.calibration, seed=recipe.split_seed)
    parts = held_out(validation=recipe.validation)
    if seen := not len(parts.validation):
        with contextlib.suppress(UsageError):  # a class has none to spare
            parts = held_out(validation=SEEN_SHARE)
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


def _measured_before(run: Run, sample: Sample) -> dict[str, Any] | None:
    document = read_probe(run)
    if document is None or document["sample"] != asdict(sample):
        return None
    console.print(f"{run.id}: probed before, {run.path / PROBE}")
    return document


def _measure(run: Run, parts: Split, sample: Sample, *, seen_in_training: bool) -> dict[str, Any]:
    network = load(run).to(parts.train.labels.device).to(memory_format=torch.channels_last)
    training, held_out = _drawn(parts.train, sample.fit), _drawn(parts.validation, sample.held_out)
    blocks = _block_rows(run, network, training, held_out, sample)
    logits = predict(network, held_out, run.normalisation)[-1]
    document = {
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
        "retrained": (read_probe(run) or {}).get("retrained", []),
        "environment": describe(logits.device),
    }
    write_json(run.path / PROBE, document)
    return document


def _block_rows(run: Run, network: Network, training: Part, held_out: Part, sample: Sample) -> list[dict[str, Any]]:
    """What is measured of every block."""
    batches = partial(_batches, normalisation=run.normalisation)
    [(images, _)] = batches(training, limit=sample.moments, size=sample.moments)
    channel_moments(network, images[:8])  # the first call pays for warming up
    started = time.monotonic()
    moments = channel_moments(network, images)
    _announce(run, (time.monotonic() - started) / len(images), len(training), len(held_out), sample)
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
            "right": pack(predicted == held_out.labels),
        }
        for number, (depth, (predicted, strength), share, similarity, drop) in enumerate(
            zip(_depths(network.spec), probes, shares, similar, drops, strict=True), start=1
        )
    ]


def _drawn(part: Part, count: int) -> Part:
    """At most `count` images, in random order, the same every time."""
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(part)))
    return part.subset(order[:count])


def _batches(
    part: Part, *, normalisation: Normalisation, limit: int | None = None, size: int = BATCH
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `limit` images, all by default, and their labels, normalised batch by batch."""
    chosen = in_order(len(part) if limit is None else min(limit, len(part)), size)
    for indices, images in zip(chosen, part.batches(chosen), strict=True):
        yield normalise(images, normalisation).contiguous(memory_format=torch.channels_last), part.labels[indices]


def _announce(run: Run, seconds: float, fit: int, held_out: int, sample: Sample) -> None:
    """Say how long probing takes, from the seconds of one image's forward pass."""
    blocks, skipped = len(run.spec.blocks), min(held_out, sample.skip)
    passes = 3 * sample.gradient_batches * sample.gradient_batch + skipped * blocks / 2
    console.print(
        f"{run.id}: probing {blocks} blocks, about {duration(math.ceil(seconds * (fit + 2 * held_out + passes)))}"
    )


def _depths(spec: Spec) -> tuple[int, ...]:
    """Depth after every block, as the field counts it: that of an exit there."""
    return spec.with_exits(range(1, len(spec.blocks) + 1)).depths


def _retrain(run: Run, document: dict[str, Any], parts: Split, recipe: Recipe, *, augment: bool) -> None:
    """Add to the document, and write, every retraining that is not there yet."""
    done = {(row["epochs"], row["block"]) for row in document["retrained"]}
    for frozen in frozen_lengths(len(run.spec.blocks)):
        if (recipe.epochs, frozen) in done:
            continue
        title = f"{run.id} behind {frozen} frozen blocks"
        accuracy = retrained_accuracy(run, frozen, parts, recipe, augment=augment, title=title)
        document["retrained"].append({"block": frozen, "epochs": recipe.epochs, "retrained_accuracy": accuracy})
        write_json(run.path / PROBE, document)
