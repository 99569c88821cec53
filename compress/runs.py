"""The run directory: its record, weights and predictions; `load(RUN)` gives the network back.

Every file is replaced in one step, so whoever reads a run sees a whole file, and a full disk leaves the old one.
Weights are safetensors and everything else JSON or plain arrays: nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from filelock import FileLock, Timeout
from torch import Tensor

from compress.data import Normalisation
from compress.errors import UsageError, nearest
from compress.networks import Network, Spec

SCHEMA_VERSION = 2  # 1: objectives were names
RECORD, METRICS, WEIGHTS, PREDICTIONS = "run.json", "metrics.jsonl", "model.safetensors", "predictions.npz"
LOCK = ".lock"


class InUseError(UsageError):
    """Another process holds the run directory `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"run {path.name} is in use by another process; wait for it, or stop it")
        self.path = path


@dataclass(kw_only=True)
class Record:
    """`run.json`: what was done, with what, and what came out; plain data throughout.

    Attributes:
        status: running, finished or failed (then `failure` says why).
        kind: train, prune or control; method: as on the command line.
        spec: of the network in `model.safetensors`.
        config: all that decides the result; its digest is the end of the run's id.
        parent: for a pruned run, the id of the run it started from.
        cost: epochs, wall seconds, training MACs, and seconds and MACs of choosing what to prune, 0 where nothing was
            (chosen while training, the seconds are among the former); `total_epochs` and `total_training_macs` (which
            has what choosing took) include the parent's and the teacher's.
        results: of every exit, and of pruning: see the README's "The run directory".
    """

    status: str
    kind: str
    method: str
    arch: str
    spec: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    seed: int
    parent: str | None = None
    environment: dict[str, Any]
    command: str
    cost: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    failure: str | None = None
    schema_version: int = SCHEMA_VERSION


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
    def spec(self) -> Spec:
        """The spec of the run's network."""
        return Spec.from_json(self.record.spec)

    @property
    def exits(self) -> list[dict[str, Any]]:
        """`results.exits`: a row an exit, shallow to deep."""
        rows: list[dict[str, Any]] = self.record.results["exits"]
        return rows

    @property
    def normalisation(self) -> Normalisation:
        """What the network's images are normalised by: see `compress.data.normalise`."""
        values = self.record.data["normalisation"]
        return Normalisation(mean=tuple(values["mean"]), std=tuple(values["std"]))

    def write_record(self) -> None:
        """Replace `run.json`."""
        write_json(self.path / RECORD, dataclasses.asdict(self.record))

    def write_weights(self, network: Network) -> None:
        """Replace `model.safetensors`."""
        state = network.state_dict()  # cloned, as safetensors refuses weights that layers share
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        write_atomically(self.path / WEIGHTS, safetensors.torch.save(state))

    def write_predictions(self, arrays: dict[str, Tensor]) -> None:
        """Replace `predictions.npz`: `<part>_labels` (N,) and `<part>_logits` (exits, N, classes)."""
        buffer = io.BytesIO()
        contents: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
        np.savez_compressed(buffer, **contents)
        write_atomically(self.path / PREDICTIONS, buffer.getvalue())


def identify(name: str, data: str, seed: int, config: dict[str, Any]) -> str:
    """The run's id: ``mwresnet44-5_cifar10_s0_1a2b3c4d``, its end a digest of the whole resolved configuration."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    return f"{name}_{data}_s{seed}_{digest}"


def read_run(path: Path) -> Run:
    """The run in a directory, whatever its status.

    Raises:
        UsageError: there is none, its record is corrupt, or another version wrote it in a form of its own.
    """
    try:
        data = json.loads((path / RECORD).read_text())
        version = int(data["schema_version"])
        record = Record(**data) if version == SCHEMA_VERSION else None
        if record and record.status == "finished":
            _check_complete(record)
    except FileNotFoundError as error:
        raise UsageError(f"run {path}: no {RECORD} there, so it is not a run directory") from error
    except OSError as error:
        raise UsageError(f"run {path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(f"run {path}: {RECORD} is corrupt ({error}); delete the directory and run it again") from error
    if record is None:
        mend = "upgrade" if version > SCHEMA_VERSION else "run it again"
        raise UsageError(f"run {path}: its record has schema {version}, this version reads {SCHEMA_VERSION}: {mend}")
    return Run(path, record)


def _check_complete(record: Record) -> None:
    """Stumble over what a finished run must have and this one has not."""
    Spec.from_json(record.spec)
    Spec.from_json(record.config["spec"])
    for values, keys in (
        (record.cost, ("epochs", "seconds", "total_training_macs")),
        (record.data, ("name", "copy", "digest", "normalisation", "split")),
        (record.results["exits"][-1], ("exit", "block", "depth", "macs", "params", "val_accuracy", "test_accuracy")),
        (record.results["achieved"] if record.kind == "prune" else {"speedup": 1}, ("speedup",)),
    ):
        for key in keys:
            values[key]


def find_run(name: str | os.PathLike[str], runs: Path) -> Run:
    """The finished run that `name` means: a path, or an id (or its unambiguous beginning) under `runs`.

    Raises:
        UsageError: none or several match, or the run is not finished.
    """
    given = Path(name)
    path = given if (given / RECORD).exists() else runs / given
    if not (path / RECORD).exists():
        ids = sorted(entry.parent.name for entry in runs.glob(f"*/{RECORD}"))
        matches = [id for id in ids if id.startswith(str(name))]
        if len(matches) > 1:
            raise UsageError(f"run {name!s}: several begin so under {runs}: {', '.join(matches)}")
        if not matches:
            known = nearest(str(name), ids) if ids else "there are none yet"
            raise UsageError(f"run {name!s}: not a run directory, and not under {runs}; {known}")
        path = runs / matches[0]
    return _finished(path)


def _finished(path: Path) -> Run:
    """The run in a directory, which must be finished."""
    run = read_run(path)
    if run.record.status == "failed":
        raise UsageError(f"run {run.id} failed: {run.record.failure}")
    if run.record.status != "finished":
        place = "" if path.parent == Path("runs") else f" (with --runs {path.parent})"
        raise UsageError(f"run {run.id} is {run.record.status}, not finished; to go on{place}: {run.record.command}")
    return run


def finished_runs(runs: Path) -> tuple[list[Run], list[str]]:
    """The finished runs under a directory, by id, and a line on everything that was skipped, but for hidden files."""
    found, skipped = [], []
    for path in sorted(runs.iterdir()) if runs.is_dir() else []:
        try:
            if path.is_dir():
                found.append(_finished(path))
            elif not path.name.startswith("."):
                skipped.append(f"{path} is a file, not a run directory")
        except UsageError as error:
            skipped.append(str(error))
    return found, skipped


def load(run: str | os.PathLike[str] | Run, *, runs: str | os.PathLike[str] = "runs") -> Network:
    """The network of a finished run, in eval mode, rebuilt strictly from its record's spec.

    It takes normalised images `(N, C, H, W)`: `normalise(images, find_run(run).normalisation)`.

    Raises:
        UsageError: no such run, not finished, or weights that are corrupt or do not fit the spec.
    """
    if not isinstance(run, Run):
        run = find_run(run, Path(runs))
    network = Network(run.spec)
    try:
        network.load_state_dict(safetensors.torch.load_file(run.path / WEIGHTS), strict=True)
    except FileNotFoundError as error:
        raise UsageError(
            f"run {run.id}: {WEIGHTS} is missing in {run.path} (a report's records have no weights): name the run's "
            f"own directory, or run it again: {run.record.command}"
        ) from error
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"run {run.id}: {WEIGHTS} is corrupt or does not fit its spec ({reason})") from error
    return network.eval()


@contextlib.contextmanager
def claimed(path: Path, *, patience: float = 0) -> Iterator[None]:
    """Hold a run directory, created if need be, for this process alone; the system lets go of it when a process dies.

    A directory in which nothing was written is removed again. `patience` is for how many seconds another is waited for.

    Raises:
        InUseError: another process holds it.
        UsageError: it cannot be written.
    """
    lock = FileLock(path / LOCK, timeout=patience)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (Timeout, FileNotFoundError) as error:  # not found: the other has just removed it
        raise InUseError(path) from error
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror}; choose another directory with --runs") from error
    try:
        yield
    finally:
        if [entry.name for entry in path.iterdir()] == [LOCK]:
            (path / LOCK).unlink()
            with contextlib.suppress(OSError):  # another process may have come just now
                path.rmdir()
        lock.release()


def write_json(path: Path, data: Any) -> None:
    """Replace a file by JSON, indented, in one step."""
    write_atomically(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None where there is none that can be read."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: the new content is whole on the disk before the old one goes.

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
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UsageError(f"cannot write {path}: {error.strerror}; what was there is untouched") from error
