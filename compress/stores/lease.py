"""Leases: who works on a run, where a store has no locks.

A lease is an object `FOLDER/.lease/NUMBER`, and the highest number holds. Taking over means to create the next number,
which the store grants to one alone. Its holder rewrites the object every few seconds; one that stays the same for long
is taken for dead. No clock of another machine is read. A holder that was wrongly taken for dead, as after a long pause,
finds the higher number before it writes the next time, and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field, replace

from compress.console import console, duration
from compress.errors import UsageError
from compress.stores.object_store import DOOR, ObjectStore, StoreError

BEAT = float(os.environ.get("COMPRESS_LEASE_BEAT", "10"))  # seconds between two signs of life
STALE = 4.5 * BEAT  # seconds without one after which a holder is taken for dead
FOLDER = ".lease"


class BusyError(Exception):
    """Another process holds the lease; the message says which."""


class LostError(UsageError):
    """Another process took the lease over."""


@dataclass
class Lease:
    """A lease that this process holds.

    Attributes:
        folder: what is leased: a key, below which the lease's objects lie.
        number: its generation.
        owner: who holds it; the same owner may take it over at once.
    """

    store: ObjectStore
    folder: str
    number: int
    owner: str
    beats: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    writing: threading.Lock = field(default_factory=threading.Lock)
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def take(cls, store: ObjectStore, folder: str, *, owner: str = "", patience: float | None = 0) -> Lease:
        """Take a lease; its signs of life come from a thread until it is released.

        Args:
            owner: unique for one task, which never runs twice at once: its own earlier lease is no obstacle.
            patience: seconds to wait for another holder (-1: no limit; None: until it is known whether that one lives).
                Only who waits longer than a dead holder is silent, `STALE`, takes over from it.

        Raises:
            BusyError: another process holds it.
        """
        owner = owner or f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        began = since = last = time.monotonic()
        seen: bytes | None = None
        lives = False
        while True:
            number, content = newest(store, folder)
            asked = time.monotonic()
            if content != seen or asked - last > BEAT:  # a sign of life; or the store was away, for its holder too
                lives = lives or seen not in (None, content)
                seen, since = content, asked
            last = asked
            if _free(content, owner) or asked - since >= STALE:
                lease = cls(store, folder, number + 1, owner)
                if store.create(lease._key, lease._content()):
                    store.remove([_key(folder, old) for old in _numbers(store, folder) if old <= number])
                    threading.Thread(target=lease._live, daemon=True).start()
                    return lease
            elif lives if patience is None else 0 <= patience < asked - began + BEAT / 10:
                raise BusyError(f"held by {json.loads(content or b'{}').get('owner', 'another process')}")
            elif patience is None and since == asked:
                console.print(f"{folder}: in use; whether by a living process is known within {duration(STALE)}")
            time.sleep(BEAT / 10)

    def check(self) -> None:
        """Refuse to go on where another process has taken over.

        Raises:
            LostError: it has.
        """
        if max(_numbers(self.store, self.folder), default=0) > self.number:
            raise LostError(f"{self.folder}: this process was silent for so long that another one took over")

    def release(self) -> None:
        """Let it go, so that the next one need not wait; a store that is away is waited for some seconds only.

        A sign of life under way may come after it, and then the next one waits.
        """
        self.ended.set()
        if self.writing.acquire(timeout=DOOR):
            try:
                with contextlib.suppress(StoreError):
                    replace(self.store, patience=DOOR).write(self._key, self._content(released=True))
            finally:
                self.writing.release()

    @property
    def _key(self) -> str:
        return _key(self.folder, self.number)

    def _content(self, *, released: bool = False) -> bytes:
        state = {"owner": self.owner, "beat": self.beats, "released": released, "nonce": self.nonce}
        return json.dumps(state).encode()

    def _live(self) -> None:
        """Give a sign of life every few seconds."""
        while not self.ended.wait(BEAT):
            self.beats += 1
            with self.writing, contextlib.suppress(StoreError):
                if not self.ended.is_set():
                    self.store.write(self._key, self._content())


def newest(store: ObjectStore, folder: str) -> tuple[int, bytes | None]:
    """The highest number of a folder's lease, 0 where there is none, and what its object holds."""
    number = max(_numbers(store, folder), default=0)
    return number, store.read(_key(folder, number)) if number else None


def _free(content: bytes | None, owner: str) -> bool:
    if content is None:
        return True
    held = json.loads(content)
    return bool(held["released"]) or held["owner"] == owner


def _key(folder: str, number: int) -> str:
    return f"{folder}/{FOLDER}/{number:08d}"


def _numbers(store: ObjectStore, folder: str) -> list[int]:
    return [int(key.rpartition("/")[2]) for key in store.listed(f"{folder}/{FOLDER}")]
