"""Mirrors: the run directories of a store as a local directory, which all that reads and writes runs works on.

A file is written here first and then put into the store, each in one step; the record of a finished run goes last,
after all that it describes. A run is read from the store in the opposite order, so that whoever sees a finished record
has the rest. Who works on a run holds its lease (`compress.stores.lease`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from compress.data.catalogue import cache_directory
from compress.stores.lease import FOLDER, Lease
from compress.stores.object_store import DOOR, ObjectStore, Stamp, StoreError

# Names in a run directory; see `compress.runs`, which describes it.
RECORD, LOCK, CHECKPOINT = "run.json", ".lock", "checkpoint"
WEIGHTS, PREDICTIONS = "model.safetensors", "predictions.npz"
MARKER = ".store.json"  # in the root of a mirror: what it is a mirror of, and where it is
NEW = 60.0  # seconds for which a directory without a record may be one that a process is just about to hold
DEPTH = 3  # directories between a file of a run and the root of the mirror, at most

_held: dict[Path, Lease] = {}  # by this process, by the directory that is leased
_markers: dict[Path, bytes] = {}  # of the mirrors that this process works in, by their roots
_reached: set[str] = set()  # URLs of stores that have answered this process
_passing_by: ContextVar[bool] = ContextVar("passing by", default=False)
_owner: list[str] = []  # who this process takes leases for, if not for itself


@dataclass(frozen=True)
class Mirror:
    """A local directory that mirrors a store.

    Attributes:
        whole: whether weights and predictions of finished runs are fetched with their records; else when they are used.
    """

    root: Path
    store: ObjectStore
    whole: bool = True

    def refresh(self) -> None:
        """Fetch what the store has of runs and this directory has not, and drop runs that the store has no more.

        Runs that a process of this machine is working on are left as they are.
        """
        runs: dict[str, dict[str, Stamp]] = {}
        for key, stamp in self.store.listed().items():
            run, _, name = key.partition("/")
            if name and not run.startswith("."):
                runs.setdefault(run, {})[name] = stamp
        runs = {run: files for run, files in runs.items() if RECORD in files}
        for run, files in runs.items():
            if any(not _is_fresh(self.root / run / name, files[name]) for name in files if self._wanted(name)):
                with _local(self.root / run) as held:
                    if held:
                        self._fetch_run(run, files)
        for path in self.root.iterdir():
            if path.is_dir() and path.name not in runs and not _is_new(path):
                with _local(path) as held:  # asked again, as the run may have come since all of them were listed
                    if held and f"{path.name}/{RECORD}" not in self.store.listed(path.name):
                        shutil.rmtree(path)

    def pull(self, path: Path) -> None:
        """Make a leased run directory what the store has of it, checkpoint included."""
        files = self.store.listed(path.name)
        found = {key.partition("/")[2]: stamp for key, stamp in files.items()}
        found = {name: stamp for name, stamp in found.items() if not name.startswith(f"{FOLDER}/")}
        for file in [file for file in path.rglob("*") if file.is_file()]:
            if file.relative_to(path).as_posix() not in {*found, LOCK}:
                file.unlink()
        for name in sorted(found, key=lambda name: name == RECORD):
            self._fetch(path / name, found[name])

    def publish(self, path: Path, content: bytes) -> None:
        """Put a file that was written here into the store.

        Raises:
            LostError: another process has taken over the run.
            StoreError: it could not be written.
        """
        leases = [_held[place] for place in (path.parent, path.parent.parent) if place in _held]

        def check() -> None:
            for lease in leases:
                lease.check()

        key = self._key(path)
        self.store.write(key, content, before=check)
        if not key.startswith(".") and CHECKPOINT not in path.parts and (stamp := self.store.listed(key).get(key)):
            with contextlib.suppress(FileNotFoundError):  # it or the run was removed just then
                _set_stamp(path, stamp)

    def discard(self, path: Path) -> None:
        """Remove a directory that was removed here from the store, too."""
        self.store.remove(list(self.store.listed(self._key(path))))

    def fetch(self, path: Path) -> None:
        """Fetch one file, if the store has it."""
        key = self._key(path)
        if stamp := self.store.listed(key).get(key):
            self._fetch(path, stamp)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _wanted(self, name: str) -> bool:
        return not _is_hidden(name) and (self.whole or name not in (WEIGHTS, PREDICTIONS))

    def _fetch_run(self, run: str, files: dict[str, Stamp]) -> None:
        """Fetch a run for reading. Its record is read first and written last; what it describes was there before it."""
        record = self.store.read(f"{run}/{RECORD}")
        if record is None:
            return
        after = {key.partition("/")[2]: stamp for key, stamp in self.store.listed(run).items()}
        finished = b'"status": "finished"' in record
        for name, stamp in after.items():
            if self._wanted(name) and name != RECORD:
                self._fetch(self.root / run / name, stamp)
        self._drop(self.root / run, after)
        _replace(self.root / run / RECORD, record, files[RECORD])
        if finished and any(name.startswith(f"{CHECKPOINT}/") for name in after):  # its maker died just then
            with contextlib.suppress(StoreError):
                self.discard(self.root / run / CHECKPOINT)

    def _drop(self, path: Path, files: dict[str, Stamp]) -> None:
        """Drop what is left here of an earlier run of the same name: files that the store has otherwise, or not."""
        for name in [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]:
            stale = name not in files or not _is_fresh(path / name, files[name])
            if stale and name != RECORD and not _is_hidden(name):
                (path / name).unlink(missing_ok=True)

    def _fetch(self, path: Path, stamp: Stamp) -> None:
        if not _is_fresh(path, stamp) and (content := self.store.read(self._key(path))) is not None:
            _replace(path, content, stamp)


def mirror(url: str, *, whole: bool = True, patience: float = DOOR, now: bool = True) -> Path:
    """The local directory that mirrors a URL; that of a `file://` URL is the directory itself, and no mirror.

    Args:
        whole: see `Mirror`; mirrors of both kinds are two directories.
        patience: seconds for which a store that does not answer at first is waited for.
        now: whether the store is read at once; else `refresh` does it, and only the URL is checked here.

    Raises:
        StoreError: no such scheme, no path of this machine, a package is missing, or the store cannot be read.
    """
    if url.startswith("file://"):
        return _directory(url)
    scheme, _, place_there = url.partition("://")
    url = f"{scheme}://{place_there.strip('/')}"
    ObjectStore(url).check_url()
    name = re.sub(r"[^\w.-]+", "-", url)[:60] + "-" + hashlib.sha256(url.encode()).hexdigest()[:8]
    place = Path(os.environ.get("COMPRESS_MIRRORS") or cache_directory() / "mirrors")
    root = place.resolve() / (name if whole else f"{name}-records")
    root.mkdir(parents=True, exist_ok=True)
    marker = json.dumps({"url": url, "whole": whole, "root": str(root.resolve())}).encode()
    _markers[root] = marker
    if not os.path.exists(root / MARKER) or (root / MARKER).read_bytes() != marker:
        _mark(root, marker)
    if now:
        refresh(root, patience=patience)
    return root


def _mark(root: Path, marker: bytes) -> None:
    root.mkdir(parents=True, exist_ok=True)
    _replace(root / MARKER, marker, Stamp(size=len(marker), written=0))


def _directory(url: str) -> Path:
    host, _, path = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not path:
        raise StoreError(f"{url}: names no directory of this machine, as in file:///shared/runs")
    return Path(url2pathname(f"/{path}"))


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path is in, or is the root of. The copy of a mirror elsewhere is a plain directory.

    A mirror that this process works in stays one where somebody removes it meanwhile: what it makes is put there still.
    """
    for place in (path, *list(path.parents)[:DEPTH]):
        if place in _markers and not os.path.exists(place / MARKER):
            _mark(place, _markers[place])
        if os.path.exists(place / MARKER):  # false, not an error, for a name that is too long
            kept = json.loads((place / MARKER).read_text())
            if kept.get("root") == str(place.resolve()):
                return Mirror(place, ObjectStore(kept["url"]), kept["whole"])
    return None


def check_writable(runs: Path) -> None:
    """Refuse the mirror of a store that cannot be written.

    Raises:
        StoreError: nothing could be written and removed there.
    """
    if place := mirror_of(runs):
        replace(place.store, patience=DOOR).check_writable()


def refresh(runs: Path, *, patience: float = DOOR) -> None:
    """Fetch what is new, where a directory is a mirror; see `Mirror.refresh`.

    Args:
        patience: seconds for which a store that has not answered this process yet is waited for.
    """
    if place := mirror_of(runs):
        if place.store.url not in _reached:
            replace(place.store, patience=patience).listed(".none")
            _reached.add(place.store.url)
        place.refresh()


def publish(path: Path, content: bytes) -> None:
    """Put a file into the store, where it is in a mirror; see `Mirror.publish`."""
    if place := mirror_of(path):
        place.publish(path, content)


def discard(path: Path) -> None:
    """Remove a directory from the store, where it was in a mirror."""
    if place := mirror_of(path):
        place.discard(path)


def fetch(path: Path) -> None:
    """Fetch a file that is not here, where its place is in a mirror and the store has it."""
    if not os.path.exists(path) and (place := mirror_of(path)):
        place.fetch(path)


@contextlib.contextmanager
def leased(path: Path, *, patience: float | None = 0) -> Iterator[None]:
    """Hold the lease of a run directory in a mirror, made what the store has of it; elsewhere nothing is held.

    Args:
        patience: as `Lease.take` has it; None is 0 within `passing_by`.

    Raises:
        BusyError: another process holds it.
        StoreError: the store does not answer.
    """
    place = mirror_of(path.parent)
    if place is None:
        yield
        return
    patience = 0 if patience is None and _passing_by.get() else patience
    _held[path] = lease = Lease.take(place.store, path.name, owner="".join(_owner), patience=patience)
    try:
        place.pull(path)
        yield
    finally:
        del _held[path]
        lease.release()


@contextlib.contextmanager
def passing_by() -> Iterator[None]:
    """Leave a run that another process holds to it at once, dead or alive, as there are others to make."""
    before = _passing_by.set(True)
    try:
        yield
    finally:
        _passing_by.reset(before)


@contextlib.contextmanager
def acting_for(owner: str) -> Iterator[None]:
    """Take leases in the name of a task, which may have died elsewhere before and never runs twice at once."""
    _owner.append(owner)
    try:
        yield
    finally:
        _owner.clear()


@contextlib.contextmanager
def _local(path: Path) -> Iterator[bool]:
    """Try to hold the lock of a run directory on this machine; yields whether it does."""
    path.mkdir(exist_ok=True)
    lock = FileLock(path / LOCK, timeout=0)
    with contextlib.suppress(Timeout, FileNotFoundError):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _is_hidden(name: str) -> bool:
    """Whether a file of a run is for who makes it alone."""
    return name.startswith((".", f"{CHECKPOINT}/"))


def _is_new(path: Path) -> bool:
    """Whether a directory may have been made for a run that has no record yet, or is gone already."""
    try:
        return not (path / RECORD).exists() and time.time() - path.stat().st_mtime < NEW
    except FileNotFoundError:
        return True


def _is_fresh(path: Path, stamp: Stamp) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, int(status.st_mtime)) == (stamp.size, stamp.written)


def _set_stamp(path: Path, stamp: Stamp) -> None:
    """Give a file the time of its object, by which it is recognised as the same."""
    os.utime(path, (stamp.written, stamp.written))


def _replace(path: Path, content: bytes, stamp: Stamp) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    _set_stamp(temporary, stamp)
    temporary.replace(path)
