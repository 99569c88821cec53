"""A real object store, a process of its own that speaks S3, and a place in it for every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.study.rehearsal import BUCKET, StoreServer
from compress.stores import lease
from compress.stores.object_store import ObjectStore


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    """The server, and the variables by which this process finds it."""
    server = StoreServer(tmp_path_factory.mktemp("store"))
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setitem(os.environ, name, value)
        yield server
    server.stop()


@pytest.fixture
def url(server: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own in the store; mirrors lie below the test's folder, and leases end within two seconds."""
    monkeypatch.setenv("COMPRESS_MIRRORS", str(tmp_path / "mirrors"))
    monkeypatch.setattr(lease, "BEAT", 0.4)
    monkeypatch.setattr(lease, "STALE", 1.8)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def store(url: str) -> ObjectStore:
    """The place as a store, which is waited for half a minute at most."""
    return ObjectStore(url, patience=30)
