"""A lease is held by one; it is taken over from the dead, and who was wrongly taken for dead finds out."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.study.rehearsal import BUCKET, StoreServer
from compress.stores import lease
from compress.stores.lease import BusyError, Lease, LostError
from compress.stores.object_store import ObjectStore


def die(lease: Lease) -> None:
    """Let its holder give no sign of life any more."""
    lease.ended.set()


def test_one_of_many_takes_it_and_the_next_when_it_is_released(store: ObjectStore) -> None:
    def attempt(_: int) -> Lease | None:
        try:
            return Lease.take(store, "run")
        except BusyError:
            return None

    with ThreadPoolExecutor(6) as pool:
        [held] = filter(None, pool.map(attempt, range(6)))
    with pytest.raises(BusyError, match="held by"):
        Lease.take(store, "run")
    Lease.take(store, "another run").release()
    held.check()
    held.release()
    Lease.take(store, "run").release()


def test_a_living_holder_keeps_it_for_longer_than_the_dead_are_waited_for(store: ObjectStore) -> None:
    held = Lease.take(store, "run")
    with pytest.raises(BusyError):
        Lease.take(store, "run", patience=3)
    held.check()
    held.release()


def test_who_only_asks_whether_the_holder_lives_waits_for_a_sign_of_life(store: ObjectStore) -> None:
    held = Lease.take(store, "run")
    began = time.monotonic()
    with pytest.raises(BusyError):
        Lease.take(store, "run", patience=None)
    assert time.monotonic() - began < lease.STALE
    die(held)
    heir = Lease.take(store, "run", patience=None)
    heir.release()
    Lease.take(store, "run", patience=None).release()


def test_it_is_taken_over_from_the_dead_who_cannot_go_on(store: ObjectStore) -> None:
    dead = Lease.take(store, "run")
    die(dead)
    with pytest.raises(BusyError):
        Lease.take(store, "run")  # without waiting, the dead look alive
    heir = Lease.take(store, "run", patience=10)
    with pytest.raises(LostError, match="another one took over"):
        dead.check()
    heir.check()
    heir.release()


def test_the_same_task_takes_it_over_at_once(store: ObjectStore) -> None:
    die(Lease.take(store, "run", owner="task 1"))
    with pytest.raises(BusyError):
        Lease.take(store, "run", owner="task 2")
    Lease.take(store, "run", owner="task 1").release()


def test_an_outage_of_the_store_kills_no_holder(store: ObjectStore, server: StoreServer) -> None:
    held = Lease.take(store, "run")
    server.stop()
    timer = threading.Timer(3, server.start)  # longer than the dead are waited for
    timer.start()
    began = time.monotonic()
    with pytest.raises(BusyError):
        Lease.take(store, "run", patience=5)
    assert time.monotonic() - began > 4
    held.check()
    held.release()
    timer.join()


def test_a_bucket_that_is_away_for_a_moment_ends_no_holder(store: ObjectStore, server: StoreServer) -> None:
    held, bucket = Lease.take(store, "run"), server.folder / BUCKET
    away = bucket.rename(server.folder / "away")
    time.sleep(2 * lease.BEAT)
    away.rename(bucket)
    with pytest.raises(BusyError):
        Lease.take(store, "run", patience=3)
    held.release()


def test_who_lets_it_go_while_the_store_is_away_is_not_held_up(
    store: ObjectStore, server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DOOR", 0.2)
    held = [Lease.take(store, name) for name in ("run", "another run")]
    server.stop()
    try:
        time.sleep(2 * lease.BEAT)  # signs of life are being tried
        began = time.monotonic()
        for each in held:
            each.release()
        assert time.monotonic() - began < 5
    finally:
        server.start()
