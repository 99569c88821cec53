"""Serving trial: contenders as the engine runs them, their accuracy in its precision and the time of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from benchmarks.certifying.exit_timing import ServedExits
from benchmarks.measuring.candidates import Candidate, candidates, random_images
from benchmarks.measuring.engines import Engine, Infer
from benchmarks.measuring.rounds import Call, conditions, interleaved, median_interval, quartiles
from benchmarks.selection.contender import Contender
from benchmarks.selection.serving import Serving
from compress.console import console
from compress.data import Normalisation, Part, Split, in_order, normalise
from compress.errors import UsageError
from compress.export.agreement import check_logits
from compress.export.held_out import HeldOut, padded
from compress.hardware import repeatable
from compress.inference import leaving_macs, mean_macs
from compress.runs import load

BATCH = 250  # of the passes that measure accuracy
TIMED_IMAGES = 256  # validation images that early exit is timed on, at most
Shape = tuple[Any, ...]  # what the time of a network depends on: its spec and the shapes of its weights


@dataclass(kw_only=True)
class Trial:
    """Measures contenders by one engine.

    Attributes:
        folder: for the ONNX files.
        images: the runs' own; None where neither accuracy nor early exit is measured on them.
        held_out: what int8 is calibrated on; None in other precisions.
        noise: interquartile range of a network's times over those of the same network in the same round.
    """

    serving: Serving
    engine: Engine
    folder: Path
    images: Split | None = None
    held_out: HeldOut | None = None
    noise: float = 0.0
    _found: dict[str, list[Candidate]] = field(default_factory=dict)

    def with_accuracy(self, contender: Contender) -> Contender:
        """The contender with its accuracy on validation images in the precision that will serve, and its bytes there.

        Of early exit also with the mean MACs there. What the engine cannot run is left out.
        """
        assert self.images is not None
        if contender.early is not None:
            return self._answered_early(contender, self.images.validation)
        try:
            right = self._right(contender, self.images.validation)
        except UsageError as error:
            return replace(contender, val_accuracy=None, left_out=str(error))
        size = contender.bytes
        if self.serving.precision == "int8":
            size = self._candidate(contender).source.onnx("int8").stat().st_size
        return replace(contender, val_accuracy=float(right.mean()), right=right, bytes=size)

    def test_accuracy(self, contender: Contender) -> float:
        """The contender's accuracy on test images in the precision that will serve; read after the choice alone."""
        assert self.images is not None
        return float(self._right(contender, self.images.test).mean())

    def timed(self, contenders: Sequence[Contender]) -> list[Contender]:
        """The contenders with the time of a batch, measured in turn; what the engine cannot run is left out.

        Networks that differ in their weights alone take the same time, and are timed once.
        """
        with conditions(self.serving.threads):
            calls, refused = self._calls(contenders)
            if calls:
                order = list(calls)
                each = [calls[key][0] for key in order]
                seconds, _ = interleaved(
                    [*each, each[0]],  # the first a second time, for the noise
                    rounds=self.serving.rounds,
                    device=self.serving.place,
                    what=f"latency of {len(each)} network{'s' * (len(each) > 1)} by {self.serving}",
                )
                self.noise = float(stats.iqr(seconds[:, -1] / seconds[:, 0]))
                times = {key: seconds[:, place] / calls[key][1] for place, key in enumerate(order)}
        return [
            replace(contender, left_out=refused[key])
            if (key := self._key(contender)) in refused
            else replace(contender, seconds=quartiles(times[key]), seconds_interval=median_interval(times[key]))
            for contender in contenders
        ]

    def _calls(self, contenders: Sequence[Contender]) -> tuple[dict[Shape, tuple[Call, int]], dict[Shape, str]]:
        """By shape: what to time and the batches in it; and why the engine cannot run others."""
        shape = contenders[0].run.spec.input_shape
        images = self.engine.place(random_images(self.serving.batch_size, shape), self.serving.place)
        plain = {self._key(each): self._candidate(each) for each in contenders if each.early is None}
        prepared, refused = self._prepared(plain, images)
        if self.serving.engine == "eager":  # as `EarlyExit` computes, and `compress predict`
            prepared = {key: repeatable(self.serving.place)(infer) for key, infer in prepared.items()}
        calls: dict[Shape, tuple[Call, int]] = {key: (partial(infer, images), 1) for key, infer in prepared.items()}
        for contender in (each for each in contenders if each.early is not None):
            try:
                calls[self._key(contender)] = self._early_exit(contender, self.images)
            except UsageError as error:
                refused[self._key(contender)] = str(error)
        return calls, refused

    def _prepared(
        self, networks: dict[Shape, Candidate], images: Tensor
    ) -> tuple[dict[Shape, Infer], dict[Shape, str]]:
        """The networks that the engine can run, prepared together, and why it cannot run the others."""
        console.print(f"{self.serving.engine}: preparing {len(networks)} network{'s' * (len(networks) != 1)}")
        try:
            return self._prepare(networks, images), {}
        except UsageError:
            refused = {}
            for key, candidate in networks.items():
                try:
                    self._prepare({key: candidate}, images)
                except UsageError as error:
                    refused[key] = str(error)
            if not refused:
                raise
            kept = {key: candidate for key, candidate in networks.items() if key not in refused}
            return self._prepare(kept, images), refused

    def _prepare(self, networks: dict[Shape, Candidate], images: Tensor) -> dict[Shape, Infer]:
        """The networks prepared for placed images.

        Raises:
            UsageError: the engine cannot run one, or its logits differ from eager's.
        """
        precision, found = self.serving.precision, list(networks.values())
        prepared = self.engine.prepare([each.source for each in found], images, precision, self.serving.threads)
        for candidate, infer in zip(found, prepared, strict=True):
            what = f"{candidate}, {self.serving.engine} {precision}"
            check_logits(self._from_cpu(infer), len(images), *candidate.checked_images, precision=precision, what=what)
        return dict(zip(networks, prepared, strict=True))

    def _early_exit(self, contender: Contender, images: Split | None) -> tuple[Call, int]:
        """Early exit on validation images, in batches that are placed, and their number.

        Raises:
            UsageError: the images are not here.
        """
        if images is None:
            raise UsageError("early exit is timed on validation images, which are not here (--data-dir)")
        part, size = images.validation, self.serving.batch_size
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(part)))[:TIMED_IMAGES]
        order = order[
            torch.arange(max(len(order) // size, 1) * size) % len(order)
        ]  # whole batches; of few images, again
        [pixels] = part.subset(order).batches([torch.arange(len(order))])
        early = self._served(contender)
        answer = early.opened(early.policy, self.folder / f"{contender.run.id} stages")
        batches = early.batches(pixels, size)
        return partial(_in_turn, answer, batches), len(batches)

    def _answered_early(self, contender: Contender, part: Part) -> Contender:
        """The contender with its accuracy and its mean MACs on a part, as early exit answers it."""
        early = self._served(contender)
        answers: list[Any] = []
        answer = early.opened(early.policy, self.folder / f"{contender.run.id} stages")
        with conditions(self.serving.threads):
            for images in part.batches(in_order(len(part), BATCH)):
                answers += map(answer, early.batches(images, BATCH))
        labels, exits = (np.concatenate([getattr(each, name) for each in answers]) for name in ("labels", "exits"))
        right = labels == part.labels.numpy(force=True)
        macs = mean_macs(exits, leaving_macs(early.network))
        return replace(contender, val_accuracy=float(right.mean()), right=right, macs=macs)

    def _served(self, contender: Contender) -> ServedExits:
        """Early exit as the engine serves it."""
        run, early, serving = contender.run, contender.early, self.serving
        assert early is not None
        return ServedExits(
            network=load(run),
            normalisation=run.normalisation,
            policy=early.policy,
            engine=serving.engine,
            precision=serving.precision,
            device=serving.place,
            threads=serving.threads,
            compact=early.compact_from,
        )

    def _right(self, contender: Contender, part: Part) -> NDArray[np.bool_]:
        """Which images of a part the engine classifies correctly with the contender's network."""
        batch = min(BATCH, len(part))
        images = self.engine.place(random_images(batch, contender.run.spec.input_shape), self.serving.place)
        source, precision = self._candidate(contender).source, self.serving.precision
        with conditions(self.serving.threads):
            [infer] = self.engine.prepare([source], images, precision, self.serving.threads)
            right = classified_correctly(self._from_cpu(infer), part, contender.run.normalisation, batch)
        return right.numpy()

    def _from_cpu(self, infer: Infer) -> Infer:
        """The prepared network as a function from images to logits on the CPU."""
        return lambda images: infer(self.engine.place(images, self.serving.place)).cpu()

    def _candidate(self, contender: Contender) -> Candidate:
        """The contender's exit as a network of its own."""
        run = contender.run
        if run.id not in self._found:
            self._found[run.id] = candidates([run], self.folder, self.held_out)
        return next(each for each in self._found[run.id] if each.exit == contender.exit)

    def _key(self, contender: Contender) -> Shape:
        """What the time depends on: the shape of an exit's network; of early exit the contender itself."""
        if contender.early is not None:
            return (contender.run.id, contender.early.policy.digest)
        network = self._candidate(contender).source.network
        return (network.spec, *(tensor.shape for tensor in network.state_dict().values()))


def _in_turn(answer: Callable[[Any], object], batches: Sequence[Any]) -> None:
    """Answer batch by batch."""
    for batch in batches:
        answer(batch)


def classified_correctly(infer: Infer, part: Part, normalisation: Normalisation, batch: int) -> Tensor:
    """Which images of a part a network, prepared for `batch` images, classifies correctly, bools `(N,)`."""
    indices, found = in_order(len(part), batch), []
    for chosen, images in zip(indices, part.batches(indices), strict=True):
        logits = infer(padded(normalise(images, normalisation), batch))[: len(chosen)]
        found.append(logits.argmax(dim=1) == part.labels[chosen])
    return torch.cat(found)
