"""`compress predict`: labels for image files, one line each, as they come."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, cast

from cyclopts import Parameter

from compress.cli.options import OUTPUT, PLACE, Flag, Output, PlaceOptions, Whole, options
from compress.cli.printing import print_json
from compress.console import console
from compress.errors import UsageError, one_line
from compress.prediction.source import find_source

if TYPE_CHECKING:
    from rich.progress import Progress

    from compress.prediction import Prediction, Predictor
    from compress.runs import Run

FIELDS = ("path", "label", "probability", "exit")
DIGITS = 6  # of a probability
STDIN = "-"
MOST_READ = 2**16  # bytes of paths at a time: what a pipe holds


@options("Prediction")
@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How labels are predicted and written.

    Attributes:
        early_exit: Images leave the run's network early, by its newest certified policy (see compress exits).
        format: csv (with a header), or jsonl: a JSON object a line.
        out: File to write to, when all is done, instead of stdout.
        batch_size: Images that a worker reads and the network answers at a time.
        workers: Threads that read images and compute at once (default: one per core).
        threads: Threads of the CPU that each worker computes with.
    """

    early_exit: Flag = False
    format: Literal["csv", "jsonl"] = "csv"
    out: Path | None = None
    batch_size: Whole = 32
    workers: Whole | None = None
    threads: Whole = 1

    @property
    def sizes(self) -> dict[str, Any]:
        """How many images and threads are at work, as `predictor` takes them."""
        return {"batch_size": self.batch_size, "workers": self.workers, "threads": self.threads}

    def check(self, output: Output) -> None:
        """Refuse a place that nothing can be written to."""
        if output.json and (self.out is not None or self.format != "csv"):
            raise UsageError("--json prints one document at the end: leave out --out and --format")
        if self.out is not None and (self.out.is_dir() or not self.out.absolute().parent.is_dir()):
            raise UsageError(f"--out {self.out}: name a file in a folder that is there")


PREDICTING = PredictOptions()


def _path(_: object, text: str) -> None:
    """Refuse a misspelt option; "-" is none, and a file may be called like one."""
    if text.startswith("-") and text != STDIN and not os.path.lexists(text):
        raise ValueError(f"{text}: neither an option nor a file; see compress predict --help")


def predict(
    model: str,
    /,
    *path: Annotated[str, Parameter(allow_leading_hyphen=True, validator=_path)],
    predicting: PredictOptions = PREDICTING,
    place: PlaceOptions = PLACE,
    output: Output = OUTPUT,
) -> int:
    """Predict the labels of image files, by a run or by a bundle.

    Images are prepared as those that the network was trained on were.

    - Each gets a line, in order and as soon as it is there: path, label, probability, and the exit that answered.
    - Files that cannot be read are named on stderr and left out; the exit status is then 1.

    Args:
        model: RUN, RUN:EXIT (a number, or ensemble) or the directory of a bundle.
        path: Image files, folders (with all that is in them, except hidden files), or - for a list of them on stdin.
    """
    if not path:
        raise UsageError(f"predict: name image files, folders of them, or {STDIN} for a list on stdin")
    predicting.check(output)
    found = find_source(model, place.runs)
    if predicting.early_exit and isinstance(found, Path):
        raise UsageError(f"--early-exit goes with a run; images leave the bundle {model} early if it is a cascade")
    if predicting.early_exit and not isinstance(found, Path) and found[1] is not None:
        raise UsageError(f"--early-exit: exit {found[1]} is named, where all images leave; name the run alone")

    from compress.prediction import predictor

    files = _files(path)
    first = next(filter(None, files), None)
    if first is None:
        raise UsageError(f"predict: no images in {', '.join(path)}")
    if predicting.early_exit and not isinstance(found, Path):
        predicts = _leaving_early(found[0], predicting, place.device)
    else:
        predicts = predictor(model, runs=place.runs, device=place.device, **predicting.sizes)
    tally = Tally()
    with contextlib.closing(predicts.predict(chain([first], files), unreadable=tally.leave_out)) as predictions:
        rows = map(_row, tally.counted(predictions, _total(path, predicting, output)))
        if output.json:
            print_json({"predictions": list(rows), "unreadable": tally.unreadable})
        else:
            _write(rows, predicting, tally)
    if tally.unreadable:
        console.print(f"{tally.predicted:,} images predicted, {tally.unreadable:,} files could not be read")
    return 1 if tally.unreadable else 0


class Tally:
    """Counts what is predicted and what is left out, and shows that as a progress bar where asked.

    Attributes:
        predicted, unreadable: numbers of files.
    """

    def __init__(self) -> None:
        self.predicted = self.unreadable = 0

    def leave_out(self, error: UsageError) -> None:
        """Name a file that cannot be read, with the reason, on stderr."""
        console.print(one_line(str(error)))
        self.unreadable += 1

    def counted(self, predictions: Iterable[Prediction], total: int | None) -> Iterator[Prediction]:
        """Pass predictions on; `total` is the number of files for the progress bar, None for no bar."""
        with _bar(total) as bar:
            task = bar.add_task("predict", total=total)
            for prediction in predictions:
                self.predicted += 1
                bar.update(task, completed=self.predicted + self.unreadable)
                yield prediction


def _bar(total: int | None) -> Progress:
    from rich.progress import Progress

    return Progress(console=console, disable=total is None, transient=True)


def _total(path: Sequence[str], predicting: PredictOptions, output: Output) -> int | None:
    """Count the files for a progress bar; None where none is shown: results on a terminal show progress themselves."""
    elsewhere = predicting.out is not None or output.json or not sys.stdout.isatty()
    if not console.is_terminal or not elsewhere or STDIN in path:
        return None

    from compress.prediction import image_files

    return sum(1 for _ in image_files(path))


def _files(path: Iterable[str]) -> Iterator[Path | None]:
    """Yield the files that paths stand for, those on stdin in the place of "-"; None where these are waited for."""
    from compress.prediction import image_files

    for each in path:
        for name in _listed(cast(io.BufferedIOBase, sys.stdin.buffer)) if each == STDIN else [each]:
            yield from [None] if name is None else image_files([name])


def _listed(stream: io.BufferedIOBase) -> Iterator[str | None]:
    """Yield the lines of a stream as they come, and None where the next one has to be waited for."""
    rest = b""
    while True:
        if not _ready(stream):
            yield None
        read = stream.read1(MOST_READ)  # what is there, once there is something
        *lines, rest = (rest + read).split(b"\n") if read else (rest, b"")
        yield from (os.fsdecode(name) for line in lines if (name := line.rstrip(b"\r")))
        if not read:
            return


def _ready(stream: io.BufferedIOBase) -> bool:
    """Whether a stream can be read without waiting; False, too, where the system cannot say."""
    try:
        return bool(select.select([stream], [], [], 0)[0])
    except (OSError, ValueError):  # it is no file, or of a kind that cannot be waited for
        return False


def _leaving_early(run: Run, predicting: PredictOptions, device: str) -> Predictor:
    """Return what predicts by a run's newest certified policy, if possible one certified for what computes here."""
    from benchmarks.certifying.exits_file import read_policies
    from compress.hardware import resolve_device
    from compress.prediction import predictor
    from compress.prediction.models import ENGINE, PRECISION
    from compress.prediction.predictors import check_numbers

    check_numbers(**predicting.sizes)  # before anything is said
    server = {"engine": ENGINE, "precision": PRECISION, "device": resolve_device(device).type}
    certified = [(each, each.certificate) for each in read_policies(run) if each.certificate is not None]
    if not certified:
        raise UsageError(f"run {run.id} has no certified policy of early exit: compress exits {run.id} certifies one")
    voids = [certificate.void(each.policy, **server) for each, certificate in certified]
    number = max(range(len(voids)), key=lambda each: (voids[each] is None, each))
    if problem := voids[number]:
        console.print(problem)
    return predictor(run, policy=certified[number][0].policy, device=device, **predicting.sizes)


def _row(prediction: Prediction) -> dict[str, Any]:
    """Return the fields of a line."""
    probability = round(prediction.probability, DIGITS)
    values = (os.fspath(prediction.path), prediction.label, probability, prediction.exit)
    return dict(zip(FIELDS, values, strict=True))


def _write(rows: Iterable[dict[str, Any]], predicting: PredictOptions, tally: Tally) -> None:
    """Write whole lines, each as it comes; end quietly where nobody reads on."""
    try:
        with _opened(predicting.out) as file:
            table = csv.DictWriter(file, FIELDS, lineterminator="\n")
            if predicting.format == "csv":
                table.writeheader()
            for row in rows:
                table.writerow(row) if predicting.format == "csv" else file.write(json.dumps(row) + "\n")
                file.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at the end
    except KeyboardInterrupt as interruption:
        kept = f"nothing was written to {predicting.out}" if predicting.out else "the lines written are whole"
        raise type(interruption)(f"{tally.predicted:,} images were predicted; {kept}") from None


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """Open stdout, or a file that is there when all is written; names of files keep their bytes in both."""
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield sys.stdout
        return
    out = Path(os.path.realpath(out))  # a link stays one
    if out.exists() and not out.is_file():  # a device or a pipe is written to: it would be replaced by a file
        with out.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
