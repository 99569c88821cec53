"""An object store by its URL, `s3://` or `gs://`, through fsspec: whole objects, written in one step, and patience."""

from __future__ import annotations

import contextlib
import datetime
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any, TypeVar

from compress.console import console, duration
from compress.errors import UsageError, first_line, nearest

T = TypeVar("T")
PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}  # what fsspec needs for each scheme
OUTAGE = 900.0  # seconds for which a store that does not answer is waited for
DOOR = 10.0  # the same, where a command has only begun
LONGEST_PAUSE = 10.0  # seconds between two tries
# What another try does not mend, beside objects that are missing or taken; everything else may be an outage.
_FINAL = (PermissionError, NotImplementedError, ImportError)
_DENIED = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "InvalidRegionError")
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")  # S3's answers where `If-None-Match: *` does not hold


class StoreError(UsageError):
    """A store cannot be reached, read or written."""


@dataclass(frozen=True)
class Stamp:
    """What tells one version of an object from the next: its size in bytes and when it was written, in whole seconds.

    Two versions of one size within a second look alike.
    """

    size: int
    written: int


@dataclass(frozen=True)
class ObjectStore:
    """Objects under a URL, by keys relative to it.

    Readers see whole objects: one is replaced in one step, or not at all. Every call waits for a store that does not
    answer, up to `patience` seconds, and then raises `StoreError`.
    """

    url: str
    patience: float = OUTAGE

    def read(self, key: str) -> bytes | None:
        """The content of an object; None where there is none."""
        try:
            content: bytes = self._tried(lambda: self._files.cat_file(self._path(key)))
        except FileNotFoundError:
            return None
        return content

    def write(self, key: str, content: bytes, *, before: Callable[[], None] = lambda: None) -> None:
        """Write an object, or replace it. A bucket that is gone is waited for like a store that does not answer.

        Args:
            before: is called before every try, as what allowed the write may have ended during an outage; its
                `UsageError` ends the tries.
        """

        def put() -> None:
            before()
            try:
                self._files.pipe_file(self._path(key), content)
            except FileNotFoundError as error:  # a command that only begins calls `create` first, which refuses
                raise ConnectionError(f"{self._bucket} does not exist") from error

        self._tried(put)

    def create(self, key: str, content: bytes) -> bool:
        """Write an object where there is none; returns whether it was this call that did. The store decides.

        A write that succeeded while its answer was lost is recognised by its content, which has to be unique.

        Raises:
            StoreError: the bucket does not exist.
        """
        try:
            self._tried(lambda: self._files.pipe_file(self._path(key), content, mode="create"))
        except FileExistsError:
            return self.read(key) == content
        except FileNotFoundError as error:
            raise StoreError(f"{self.url} cannot be written: {self._bucket} does not exist") from error
        return True

    def remove(self, keys: list[str]) -> None:
        """Remove objects, those that are there."""
        for path in map(self._path, keys):
            with contextlib.suppress(FileNotFoundError):
                self._tried(partial(self._files.rm_file, path))

    def listed(self, folder: str = "") -> dict[str, Stamp]:
        """The keys below a folder, or all of them, with their stamps; those that are no relative paths are left out.

        Raises:
            StoreError: the bucket does not exist, where all are asked for.
        """
        try:
            found = self._tried(lambda: self._files.find(self._path(folder), detail=True, refresh=True))
        except FileNotFoundError as error:
            if not folder:  # else what is only mistaken for empty would be emptied elsewhere
                raise StoreError(f"{self.url} cannot be read: {self._bucket} does not exist") from error
            return {}
        root = len(self._root) + 1
        files = {path[root:]: info for path, info in found.items() if info["type"] == "file"}
        return {key: _stamp(info) for key, info in files.items() if not {"", ".", ".."} & set(key.split("/"))}

    def check_url(self) -> None:
        """Refuse a URL that can be no store; nothing is asked of any.

        Raises:
            StoreError: no such scheme, no bucket, or the package that fsspec needs is not installed.
        """
        scheme = self.url.partition("://")[0]
        if scheme not in PACKAGES:
            raise StoreError(f"{self.url}: {scheme}:// cannot be read; {nearest(scheme, [*PACKAGES, 'file'])}")
        if not self._bucket:
            raise StoreError(f"{self.url}: names no bucket, as in {scheme}://bucket/runs")
        if find_spec(PACKAGES[scheme]) is None:
            extra = "install the extra cluster" if scheme == "s3" else f"pip install {PACKAGES[scheme]}"
            raise StoreError(f"{self.url}: {scheme}:// takes the package {PACKAGES[scheme]}: {extra}")

    def check_writable(self) -> None:
        """Refuse a URL that cannot be written, or where two may hold one run.

        Raises:
            StoreError: an object could not be written and removed, or was created twice.
        """
        key = f".writable-{uuid.uuid4().hex}"
        alone = self.create(key, b"1") and not self.create(key, b"2")
        self.remove([key])
        if not alone:
            raise StoreError(
                f"{self.url}: the store ignores conditional writes (If-None-Match), so that one run would be made twice"
            )

    @property
    def _root(self) -> str:
        return self.url.partition("://")[2].strip("/")

    @property
    def _bucket(self) -> str:
        return self._root.partition("/")[0]

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")

    @cached_property
    def _files(self) -> Any:
        """The file system of fsspec; raises as `check_url`."""
        self.check_url()
        import fsspec

        return fsspec.filesystem(self.url.partition("://")[0], use_listings_cache=False)

    def _tried(self, action: Callable[[], T]) -> T:
        """Do something, again and again while the store does not answer.

        Raises:
            StoreError: it did not answer for too long, or it refuses.
            FileNotFoundError, FileExistsError: there is no such object, or there is one already.
        """
        files = self._files  # raises before any waiting
        began, pause = time.monotonic(), 0.5
        while True:
            try:
                return action()
            except Exception as error:
                if isinstance(error, UsageError):
                    raise  # of what is asked before a write: no outage
                if _is_taken(error):
                    raise FileExistsError(first_line(error)) from error
                if isinstance(error, FileNotFoundError):
                    raise
                if isinstance(error, _FINAL) or type(error).__name__ in _DENIED:
                    raise StoreError(f"{self.url}: {files.protocol[0]} refuses: {first_line(error)}") from error
                waited, reason = time.monotonic() - began, first_line(error)
                if waited + pause > self.patience:
                    raise StoreError(f"{self.url} did not answer for {duration(waited)}: {reason}") from error
                if pause == 0.5:
                    console.print(f"waiting for {self.url}: {reason}")
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)


def _is_taken(error: Exception) -> bool:
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return isinstance(error, FileExistsError) or code in _TAKEN


def _stamp(info: dict[str, Any]) -> Stamp:
    """The stamp in a listing: s3fs says `LastModified`, gcsfs `updated`."""
    written = info.get("LastModified") or info["updated"]
    if isinstance(written, str):
        written = datetime.datetime.fromisoformat(written)
    return Stamp(size=int(info["size"]), written=int(written.timestamp()))
