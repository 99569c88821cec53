"""Models: what answers images, the network of a run or a bundle; only the former imports torch."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compress import runs
from compress.data.preparation import Preparation
from compress.ensemble_exit import ExitName
from compress.errors import UsageError, first_line
from compress.inference import Policy
from compress.prediction.measured_compaction import measured_compaction

if TYPE_CHECKING:
    from compress.export import Bundle
    from compress.runs import Run


class Answers(NamedTuple):
    """What a model says of N images.

    Attributes:
        labels: int `(N,)`.
        probabilities: of every class, `(N, classes)`.
        exits: at which the network answered, 1-based, int `(N,)`; or ``ensemble``.
    """

    labels: NDArray[Any]
    probabilities: NDArray[Any]
    exits: NDArray[Any]


Answer = Callable[[NDArray[np.uint8]], Answers]  # of images (N, C, H, W)
Respond = Callable[[NDArray[Any]], Answers]  # of images as a bundle takes them, uint8 or fp32

ENGINE, PRECISION = "eager", "fp32"  # what a run's network computes with
_log = logging.getLogger("compress")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What predictions need of a run or a bundle.

    Attributes:
        classes: names of the classes, in the order of the labels.
        begin: makes a function that answers images, for one thread at a time.
    """

    classes: tuple[str, ...]
    preparation: Preparation
    begin: Callable[[], Answer]


def run_model(run: Run, *, exit: ExitName | None, policy: Policy | None, device: str, threads: int) -> Model:
    """Return the network of a run, as a whole, cut at an exit (1-based), its ensemble, or with early exit by a policy.

    Images that have left are taken out of batches of the sizes for which the run's file says that it pays.

    Raises:
        UsageError: weights are missing or damaged, or the exit or policy does not fit.
    """
    import torch

    from compress.data import normalise
    from compress.hardware import repeatable, resolve_device
    from compress.inference import network_at

    where, normalisation = resolve_device(device), run.normalisation
    network = runs.load(run)
    network = (network if exit is None else network_at(run, network, exit)).to(where)
    number = exit or len(run.exits)
    early_exit = None
    if policy is not None:
        from compress.inference import EarlyExit

        compact = measured_compaction(run, policy, engine=ENGINE, precision=PRECISION, device=where.type)
        early_exit = EarlyExit(network, policy, compact=compact)
    torch.get_num_threads()  # fixes the number of the caller's thread, before others set theirs

    one_by_one = threading.Lock() if where.type == "cuda" else contextlib.nullcontext()  # cuDNN's settings are global

    @torch.inference_mode()
    def answer(images: NDArray[np.uint8]) -> Answers:
        with one_by_one, repeatable(where):
            return computed(images)

    def computed(images: NDArray[np.uint8]) -> Answers:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        prepared = normalise(torch.from_numpy(images).to(where), normalisation)
        if early_exit is not None:
            left = early_exit(prepared)
            return Answers(*(each.cpu().numpy() for each in (left.labels, left.probabilities, left.exits)))
        logits = network(prepared)[-1].float()
        labels, probabilities = logits.argmax(dim=-1).cpu().numpy(), logits.softmax(dim=-1).cpu().numpy()
        return Answers(labels, probabilities, np.full(len(images), number))

    preparation = Preparation.of(run.record.data.get("preprocessing"), run.spec.input_shape)
    return Model(classes=tuple(run.record.data["classes"]), preparation=preparation, begin=lambda: answer)


def bundle_model(bundle: Bundle, *, threads: int) -> Model:
    """Return what a bundle holds, one network or a cascade, which says once if its policy guarantees nothing.

    Raises:
        UsageError: the runtime that it needs is not installed, or its labels are not as many as its outputs.
    """
    given, manifest, classes = bundle.preprocess, bundle.manifest, tuple(bundle.labels)
    preparation = Preparation.of(given, (given["channels"], given["height"], given["width"]))
    scaled = manifest["input"] == "float"  # it takes pixels from 0 to 1
    warn = functools.cache(partial(_log.warning, "bundle %s: %s", bundle.path))  # once, though every thread begins one

    def begin() -> Answer:
        respond = _cascade(bundle, threads, warn) if manifest["kind"] == "cascade" else _single(bundle, threads)
        return lambda images: respond(np.divide(images, 255, dtype=np.float32) if scaled else images)

    try:
        outputs = begin()(np.zeros((1, *preparation.shape), np.uint8)).probabilities.shape[1]
    except ModuleNotFoundError as error:
        raise UsageError(
            f"bundle {bundle.path}: {error.name} is not installed; pip install 'multiway-compress[deploy]' brings it"
        ) from error
    except ValueError as error:
        raise UsageError(f"bundle {bundle.path}: {first_line(error)}") from error
    except Exception as error:  # of the runtime: the errors of onnxruntime have no other base
        raise UsageError(
            f"bundle {bundle.path}: the runtime does not read the model; a newer one may: {first_line(error)}"
        ) from error
    if outputs != len(classes):
        raise UsageError(f"bundle {bundle.path}: labels.json names {len(classes)} classes, the model answers {outputs}")
    return Model(classes=classes, preparation=preparation, begin=begin)


def _single(bundle: Bundle, threads: int) -> Respond:
    """Open a bundle of one network, which has one exit."""
    infer, number = bundle.infer(threads=threads), bundle.manifest["source"]["exit"]

    def respond(images: NDArray[Any]) -> Answers:
        outputs = infer(images)
        probabilities = outputs if bundle.manifest["output"] == "probabilities" else _softmax(outputs)
        return Answers(outputs.argmax(axis=-1), probabilities, np.full(len(images), number))

    return respond


def _cascade(bundle: Bundle, threads: int, warn: Callable[[str], None]) -> Respond:
    """Open a bundle of one graph a stage; it warns where nothing is guaranteed."""
    from compress.export.early_exit_runner import Cascade

    cascade = Cascade(bundle.path, threads=threads)
    if cascade.notice:
        warn(cascade.notice)

    def respond(images: NDArray[Any]) -> Answers:
        left = cascade(images)
        return Answers(left.labels, left.probabilities, left.exits)

    return respond


def _softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
