"""The run directory: its record, weights and predictions; `load(RUN)` returns the network.

Every file is replaced atomically, so readers see whole files, and a full disk leaves the old file. Weights are
safetensors, everything else is JSON or plain arrays: nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from compress import data, networks
from compress.documents import UnreadableError, read_file
from compress.ensemble_exit import ENSEMBLE, ExitName, whole_and_exit
from compress.errors import UsageError, checked, first_line, nearest
from compress.records import Record, SchemaError, parse_record
from compress.stores import mirror
from compress.stores.lease import BusyError, LostError
from compress.stores.mirror import discard, fetch, leased, publish, refresh

# The files of a run directory. `compress.training.execution` writes RECORD, METRICS, WEIGHTS, PREDICTIONS, CHECKPOINT.
RECORD, WEIGHTS, PREDICTIONS = mirror.RECORD, mirror.WEIGHTS, mirror.PREDICTIONS
METRICS, LOCK, CHECKPOINT = "metrics.jsonl", mirror.LOCK, mirror.CHECKPOINT
BENCH = "bench.json"  # latency and energy; written and read by `benchmarks.measuring.bench_file`
COSTS = "costs.json"  # bytes, activations, peak memory; written and read by `benchmarks.measuring.costs_file`
PROBE = "probe.json"  # what blocks have learnt; written and read by `benchmarks.probing.probe_file`
EARLY_EXIT = "early_exit.json"  # policies and certificates; written and read by `benchmarks.certifying`
CORRECTNESS = "correctness.json"  # PREDICTIONS in short, in a report; see `benchmarks.results.predictions`
COMPARISON, RECORDS = "comparison.json", "runs"  # in a report's directory: what it is on, and the records of its runs

if TYPE_CHECKING:
    from torch import Tensor

_TEMPORARY = re.compile(r"\..+\.(?P<process>\d+)")  # name of a file that `write_atomically` is writing


class InUseError(UsageError):
    """Another process holds the run directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"run {path.name} is in use by another process; wait for it, or stop it")
        self.path = path


@dataclass(frozen=True)
class Run:
    """A run directory and the record read from it."""

    path: Path
    record: Record

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def spec(self) -> networks.Spec:
        """The spec of the run's network."""
        return networks.Spec.from_json(self.record.spec)

    @property
    def exits(self) -> list[dict[str, Any]]:
        """`results.exits`: a row per exit, shallow to deep."""
        rows: list[dict[str, Any]] = self.record.results["exits"]
        return rows

    @property
    def ensemble(self) -> dict[str, Any] | None:
        """`results.ensemble`, the average of its last exits; None if it has none."""
        row: dict[str, Any] | None = self.record.results.get(ENSEMBLE)
        return row

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """A row for everything that it predicts: its exits, shallow to deep, then its ensemble if it has one."""
        return [*self.exits, *([self.ensemble] if self.ensemble else [])]

    def prediction(self, exit: ExitName) -> dict[str, Any]:
        """The row of an exit (1-based), or of the ensemble."""
        return next(row for row in self.predictions if row["exit"] == exit)

    @property
    def normalisation(self) -> data.Normalisation:
        """The normalisation of the network's images, for `compress.data.normalise`."""
        values = self.record.data["normalisation"]
        return data.Normalisation(mean=tuple(values["mean"]), std=tuple(values["std"]))

    def write_record(self) -> None:
        """Replace `run.json`."""
        write_json(self.path / RECORD, dataclasses.asdict(self.record))

    def write_weights(self, network: networks.Network) -> None:
        """Replace `model.safetensors`."""
        import safetensors.torch  # here and below, as it imports torch, which looking for a run does not need

        state = network.state_dict()  # cloned, as safetensors refuses weights that layers share
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        write_atomically(self.path / WEIGHTS, safetensors.torch.save(state))

    def write_predictions(self, arrays: dict[str, Tensor]) -> None:
        """Replace `predictions.npz`: `<part>_labels` (N,) and `<part>_logits` (exits, N, classes).

        For a run with an ensemble also its `<part>_ensemble_logits` (N, classes).
        """
        import numpy as np

        buffer = io.BytesIO()
        contents: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
        np.savez_compressed(buffer, **contents)
        write_atomically(self.path / PREDICTIONS, buffer.getvalue())


def read_run(path: Path) -> Run:
    """Read the run in a directory, whatever its status.

    Raises:
        UsageError: there is none, or its record is corrupt or has another schema version.
    """
    try:
        record = parse_record(read_file(path / RECORD), path.name)
    except FileNotFoundError as error:
        raise UsageError(f"run {path}: no {RECORD} there, so it is not a run directory") from error
    except (SchemaError, UnreadableError) as error:
        raise UsageError(f"run {path}: {error}") from error
    except UsageError as error:
        raise UsageError(f"run {path}: {RECORD} is corrupt ({error}); delete the directory and run it again") from error
    return Run(path, record)


@checked
def find_run(name: str | os.PathLike[str] | Run, runs: str | os.PathLike[str] = "runs") -> Run:
    """Find a finished run by its path, or by its id (or an unambiguous beginning) under `runs`; returns a run as is.

    Raises:
        UsageError: none or several match, or the run is not finished.
    """
    if isinstance(name, Run):
        return name
    if not str(name).strip():
        raise UsageError("run '': an id, its beginning, or the path of a run's directory")
    given, runs = Path(name), Path(runs)
    refresh(runs)
    path = given if os.path.exists(given / RECORD) else runs / given
    if not os.path.exists(path / RECORD):  # false for names that no file can have
        ids = sorted(entry.parent.name for entry in runs.glob(f"*/{RECORD}")) if os.path.isdir(runs) else []
        matches = [id for id in ids if id.startswith(str(name))]
        if len(matches) > 1:
            raise UsageError(f"run {name!s}: several begin so under {runs}: {', '.join(matches)}")
        if not matches:
            if whole_and_exit(str(name))[1] is not None:
                raise UsageError(
                    f"run {name!s}: an exit is no run; name the whole run, without what is behind the colon"
                )
            known = nearest(str(name), ids) if ids else "there are none yet"
            raise UsageError(f"run {name!s}: not a run directory, and not under {runs} (--runs names another); {known}")
        path = runs / matches[0]
    return _finished(path)


def run_and_exit(name: str | os.PathLike[str], runs: Path) -> tuple[Run, ExitName | None]:
    """The finished run that RUN or RUN:EXIT means, and the exit (1-based, or ``ensemble``), if one is named.

    Raises:
        UsageError: there is no such run, it is not finished, or it has no such exit.
    """
    whole, exit = whole_and_exit(str(name))
    run = find_run(name if exit is None else whole, runs)
    if exit == ENSEMBLE and run.ensemble is None:
        raise UsageError(f"{name}: run {run.id} has no ensemble: compress train-mwbp --ensemble 3 makes one")
    if isinstance(exit, int) and not 1 <= exit <= len(run.exits):
        raise UsageError(f"{name}: run {run.id} has exits 1 to {len(run.exits)}")
    return run, exit


def macs_of(name: str | os.PathLike[str], runs: Path) -> int:
    """The MACs of RUN's last exit, or of RUN:EXIT, as a budget.

    Raises:
        UsageError: as `run_and_exit`.
    """
    run, exit = run_and_exit(name, runs)
    return int(run.prediction(exit or len(run.exits))["macs"])


def _finished(path: Path) -> Run:
    """Read the run in a directory; raises UsageError if it is not finished."""
    run = read_run(path)
    if run.record.status == "failed":
        raise UsageError(f"run {run.id} failed: {run.record.failure}")
    if run.record.status != "finished":
        place = "" if path.parent == Path("runs") else f" (with --runs {path.parent})"
        raise UsageError(f"run {run.id} is {run.record.status}, not finished; to go on{place}: {run.record.command}")
    return run


def finished_runs(runs: Path) -> tuple[list[Run], list[str]]:
    """The finished runs under a directory, by id, and a line for everything else, except hidden files."""
    refresh(runs)
    found, skipped = [], []
    for path in sorted(runs.iterdir()) if os.path.isdir(runs) else []:
        try:
            if path.is_dir():
                found.append(_finished(path))
            elif not path.name.startswith("."):
                skipped.append(f"{path} is a file, not a run directory")
        except UsageError as error:
            skipped.append(str(error))
    return found, skipped


def abandoned_runs(runs: Path) -> list[Run]:
    """The unfinished runs under a directory that no process holds."""
    found = []
    for path in sorted(runs.glob(f"*/{RECORD}")):
        with contextlib.suppress(UsageError):
            run = read_run(path.parent)
            if run.record.status != "finished":
                with claimed(run.path):
                    found.append(run)
    return found


def sweep(run: Run) -> None:
    """Remove the checkpoint and temporary files of a finished run, unless another process holds it."""
    if (run.path / CHECKPOINT).exists() or _leftovers(run.path):
        with contextlib.suppress(UsageError), claimed(run.path):
            shutil.rmtree(run.path / CHECKPOINT, ignore_errors=True)
            discard(run.path / CHECKPOINT)


@checked
def load(run: str | os.PathLike[str] | Run, *, runs: str | os.PathLike[str] = "runs") -> networks.Network:
    """Load the network of a finished run, in eval mode.

    It takes normalised images `(N, C, H, W)`: `normalise(images, find_run(run).normalisation)`.

    Raises:
        UsageError: no such run, not finished, or weights that are corrupt or do not fit the spec.
    """
    import safetensors.torch

    run = find_run(run, runs)
    fetch(run.path / WEIGHTS)
    if not (run.path / WEIGHTS).is_file():
        raise UsageError(
            f"run {run.id}: {WEIGHTS} is missing in {run.path} (a report's records have no weights): name the run's "
            f"own directory, or run it again: {run.record.command}"
        )
    network = networks.Network(run.spec)
    try:
        network.load_state_dict(safetensors.torch.load_file(run.path / WEIGHTS), strict=True)
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        raise UsageError(
            f"run {run.id}: {WEIGHTS} is corrupt or does not fit its spec ({first_line(error)})"
        ) from error
    return network.eval()


@contextlib.contextmanager
def claimed(path: Path, *, patience: float | None = 0) -> Iterator[None]:
    """Lock a run directory, created if need be, for this process; the system unlocks it when the process dies.

    Temporary files of killed processes are removed, and so is, at the end, an empty directory. `patience` is the number
    of seconds to wait for another process (-1: no limit; None: until it is known whether one elsewhere lives).

    Raises:
        InUseError: another process holds it.
        UsageError: it cannot be written.
    """
    lock = FileLock(path / LOCK, timeout=patience or 0)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (Timeout, FileNotFoundError) as error:  # not found: another process has just removed it
        raise InUseError(path) from error
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror}; choose another directory with --runs") from error
    try:
        for file in _leftovers(path):
            with contextlib.suppress(OSError):
                file.unlink()
        with leased(path, patience=patience):  # where other machines do not see the lock
            yield
    except (BusyError, LostError) as error:
        raise InUseError(path) from error
    finally:
        if [entry.name for entry in path.iterdir()] == [LOCK]:
            (path / LOCK).unlink()
            with contextlib.suppress(OSError):  # another process may have come just now
                path.rmdir()
        lock.release()


def write_json(path: Path, data: Any) -> None:
    """Replace a file atomically by indented JSON."""
    write_atomically(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file atomically: the new content is on the disk before the old file is replaced.

    Raises:
        UsageError: it could not be written (the old file is untouched).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise UsageError(f"cannot write {path}: {error.strerror}; what was there is untouched") from error
    publish(path, content)


def _leftovers(path: Path) -> list[Path]:
    """Temporary files of `write_atomically` in a run directory whose processes have ended."""
    hidden = [file for place in (path, path / CHECKPOINT) for file in place.glob(".*")]
    begun = [(file, _TEMPORARY.fullmatch(file.name)) for file in hidden]
    return [file for file, match in begun if match and not _alive(int(match["process"]))]


def _alive(process: int) -> bool:
    """Whether another process on this machine has that number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except OSError:  # another user's process
        return True
    return True
