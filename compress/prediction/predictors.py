"""The predictor: labels of image files by a trained network, streamed in the order of the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from compress.ensemble_exit import ExitName
from compress.errors import UsageError, checked
from compress.inference import Policy
from compress.prediction.image_paths import image_files
from compress.prediction.models import Answer, Model, bundle_model, run_model
from compress.prediction.source import find_source
from compress.prediction.worker_threads import concurrently, cores
from compress.runs import Run

BATCH_SIZE = 32  # images that a thread reads and a network answers at a time
MOST = 65_536  # images in a batch, and worker threads
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Prediction:
    """What a network says of an image file.

    Attributes:
        label: name of the class.
        probability: of that class, as the network says, 0 to 1.
        exit: at which the network answered, 1-based; or ``ensemble``.
    """

    path: Path
    label: str
    probability: float
    exit: ExitName


class Predictor:
    """Predicts the labels of image files; made by `predictor`.

    Attributes:
        model: what answers, with the names of the classes and how files are prepared.
        batch_size: images that a thread reads and answers at a time.
        workers: threads that read images and compute at once.
    """

    def __init__(self, model: Model, *, batch_size: int = BATCH_SIZE, workers: int | None = None) -> None:
        check_numbers(batch_size=batch_size, workers=workers)
        self.model, self.batch_size = model, batch_size
        self.workers = cores() if workers is None else workers
        self._idle: list[Answer] = []  # what the model has begun and no thread uses

    def predict(
        self, paths: PathLike | Iterable[PathLike | None], *, unreadable: Callable[[UsageError], object] | None = None
    ) -> Generator[Prediction, None, None]:
        """Yield a prediction for every image file, in order, while the next ones are read and computed.

        Args:
            paths: files and folders, see `image_files`. None among them says that the next one has to be waited for:
                what has come until then is predicted first, however few they are.
            unreadable: called with what is wrong with a file, which is then left out.

        Raises:
            UsageError: a file cannot be read as an image that the network takes, and there is no `unreadable`.
        """
        batches = self._batches([paths] if isinstance(paths, str | os.PathLike) else paths)
        with closing(concurrently(self._predict_batch, batches, self.workers)) as answered:
            for outcomes in answered:
                for outcome in outcomes:
                    if isinstance(outcome, Prediction):
                        yield outcome
                    elif unreadable is None:
                        raise outcome
                    else:
                        unreadable(outcome)

    def _batches(self, paths: Iterable[PathLike | None]) -> Iterator[list[Path] | None]:
        """Yield the files that paths stand for in batches, and None where the next one has to be waited for."""
        for waits, group in groupby(paths, lambda path: path is None):
            if waits:
                yield None
                continue
            files = image_files(path for path in group if path is not None)
            while batch := list(islice(files, self.batch_size)):
                yield batch

    def _predict_batch(self, files: list[Path]) -> list[Prediction | UsageError]:
        """Return a prediction for every file, or what is wrong with it."""
        found = [self._read(file) for file in files]
        images = [each for each in found if not isinstance(each, UsageError)]
        predicted = iter(self._answer(np.stack(images)) if images else [])
        return [
            each if isinstance(each, UsageError) else Prediction(file, *next(predicted))
            for file, each in zip(files, found, strict=True)
        ]

    def _read(self, file: Path) -> np.ndarray | UsageError:
        try:
            return self.model.preparation.read(file)
        except UsageError as error:
            return error

    def _answer(self, images: np.ndarray) -> list[tuple[str, float, ExitName]]:
        """Return label, probability and exit of images `(N, C, H, W)`."""
        try:
            answer = self._idle.pop()
        except IndexError:
            answer = self.model.begin()
        labels, probabilities, exits = answer(images)
        self._idle.append(answer)
        chosen = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        rows = zip(labels.tolist(), chosen.tolist(), exits.tolist(), strict=True)
        return [(self.model.classes[label], probability, exit) for label, probability, exit in rows]


@checked
def predictor(
    source: str | os.PathLike[str] | Run,
    exit: ExitName | None = None,
    policy: Policy | None = None,
    *,
    runs: str | os.PathLike[str] = "runs",
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    threads: int = 1,
) -> Predictor:
    """Return what predicts labels by a finished run or by a bundle that was exported from one.

    Args:
        source: a run, RUN or RUN:EXIT as `find_run` takes it, or the directory of a bundle.
        exit: the exit (1-based) at which a run's network is cut, or ``ensemble``; the last one by default.
        policy: images leave a run's network early by it, and batches are compacted where `compress exits` measured for
            the run that it pays; where it did not, always.
        runs: directory of the run directories.
        device: where a run's network computes; a bundle does on the CPU.
        batch_size: images that a thread reads and answers at a time.
        workers: threads that read images and compute at once; one for every core by default.
        threads: threads of the CPU that each of them computes with.

    Raises:
        UsageError: there is no such run or bundle, it is damaged, or exit, policy or a number does not fit it.
    """
    check_numbers(batch_size=batch_size, workers=workers, threads=threads)  # before anything is loaded
    found = find_source(source, Path(runs))
    if isinstance(found, Path):
        if exit is not None or policy is not None or device not in ("auto", "cpu"):
            raise UsageError(f"{source} is a bundle, which has its exit and policy in it and computes on the CPU")
        from compress.export import read_bundle

        model = bundle_model(read_bundle(found), threads=threads)
    else:
        run, named = found
        if None not in (exit, named) and exit != named:
            raise UsageError(f"{source} names exit {named}, and exit {exit} is asked for")
        exit = named if exit is None else exit
        if exit is not None and policy is not None:
            raise UsageError(f"exit {exit} and early exit by a policy: give one of them")
        model = run_model(run, exit=exit, policy=policy, device=device, threads=threads)
    return Predictor(model, batch_size=batch_size, workers=workers)


def check_numbers(**numbers: int | None) -> None:
    """Refuse numbers below 1, more threads than the machine has, and batches that no memory holds."""
    most = {"threads": os.cpu_count() or 1}
    for name, number in numbers.items():
        if number is not None and not 1 <= number <= most.get(name, MOST):
            raise UsageError(f"{name} {number} must be 1 or more, here {most.get(name, MOST):,} at most")
