"""Objects are whole, one of several creators wins, and a store that is away is waited for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from benchmarks.study.rehearsal import BUCKET, StoreServer
from compress.stores.object_store import ObjectStore, StoreError


def test_objects_are_written_read_listed_and_removed(store: ObjectStore) -> None:
    assert store.read("a/b") is None
    assert store.listed() == {}
    store.write("a/b", b"1")
    store.write("a/b", b"22")
    store.write("a/bc", b"3")
    assert store.read("a/b") == b"22"
    assert {key: stamp.size for key, stamp in store.listed().items()} == {"a/b": 2, "a/bc": 1}
    assert list(store.listed("a/b")) == ["a/b"]
    store.remove(["a/b", "a/none"])
    assert list(store.listed("a")) == ["a/bc"]


def test_keys_that_lead_elsewhere_are_not_listed() -> None:
    store = ObjectStore("s3://bucket/runs")
    keys = ["id/run.json", "id/../../outside", "../outside", "id//etc/outside", "/outside", "id/./run.json"]
    found = {f"bucket/runs/{key}": {"type": "file", "size": 1, "updated": "2026-01-01T00:00:00Z"} for key in keys}
    vars(store)["_files"] = Mock(find=lambda path, **_: found)
    assert list(store.listed()) == ["id/run.json"]


def test_of_many_that_create_an_object_at_once_one_does(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: store.create("one", bytes([number])), range(8)))
    assert sum(created) == 1
    assert store.read("one") == bytes([created.index(True)])


def test_a_store_that_is_away_is_waited_for(store: ObjectStore, server: StoreServer) -> None:
    store.write("kept", b"1")
    server.stop()
    timer = threading.Timer(2, server.start)
    timer.start()
    began = time.monotonic()
    assert store.read("kept") == b"1"
    assert time.monotonic() - began > 1.5
    timer.join()


def test_a_bucket_that_is_away_is_waited_for_by_who_writes(store: ObjectStore, server: StoreServer) -> None:
    bucket = server.folder / BUCKET
    away = bucket.rename(server.folder / "away")
    timer = threading.Timer(0.3, away.rename, [bucket])
    timer.start()
    store.write("kept", b"1")
    timer.join()
    assert store.read("kept") == b"1"


def test_a_store_where_two_create_one_object_is_refused(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check_writable()
    put = store._files.pipe_file
    monkeypatch.setattr(store._files, "pipe_file", lambda path, content, mode: put(path, content))
    with pytest.raises(StoreError, match=r"ignores conditional writes \(If-None-Match\)"):
        store.check_writable()
    assert store.listed() == {}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://no-such-bucket/runs", "cannot be written: no-such-bucket does not exist"),
        ("s4://bucket/runs", "s4:// cannot be read; did you mean 's3'?"),
        ("s3://", "names no bucket"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_line(url: str, message: str, server: StoreServer) -> None:
    with pytest.raises(StoreError, match=message.replace("?", r"\?")):
        ObjectStore(url, patience=5).check_writable()


def test_a_store_that_never_answers_is_said_to_be_waited_for_and_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    files = ObjectStore("s3://bucket/other", patience=1)

    def away() -> None:
        raise ConnectionError("nobody there")

    with pytest.raises(StoreError, match=r"did not answer for \d s: nobody there"):
        files._tried(away)
    assert "waiting for s3://bucket/other: nobody there" in capsys.readouterr().err
