"""A rehearsal of a cluster on one machine: an object store and Ray nodes, each with run directories of its own.

Real processes: a server that speaks S3 and keeps its objects on the disk, and Ray's. Needs the packages of the extra
`dev`. `python -m benchmarks.study.rehearsal STUDY EPOCHS EVERY RUNS [ADDRESS]`
makes a study's runs, on a cluster or in this process, and reports nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUCKET = "rehearsal"
PATIENCE = 60.0  # seconds for a server to answer


@dataclass
class StoreServer:
    """A server that speaks S3, with one bucket, whose objects survive it."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, on the port that it had before, and wait until it answers."""
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port()
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "localbucket", str(self.folder), "--port", str(self.port)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the object store did not start: {self._log.read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it, whatever it is doing."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def writes(self) -> Counter[str]:
        """How often each object was written, by its key, since the first start."""
        return Counter(re.findall(rf'"PUT /{BUCKET}/(\S+) HTTP/1.1" 200', self._log.read_text()))

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a process finds it."""
        place = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ACCESS_KEY_ID": "rehearsal", "AWS_SECRET_ACCESS_KEY": "rehearsal", **place}

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"


@dataclass
class Rehearsal:
    """An object store, and a Ray cluster of a head and other nodes, one CPU each.

    Attributes:
        beat: seconds between the signs of life of a process that holds a run.
    """

    folder: Path
    beat: float = 1.0
    store: StoreServer = field(init=False)
    cluster: Any = None
    nodes: list[Any] = field(default_factory=list)

    def __enter__(self) -> Rehearsal:
        from ray.cluster_utils import Cluster

        self.store = StoreServer(self.folder / "store")
        self.store.start()
        self.cluster = Cluster(initialize_head=True, head_node_args=self._arguments("head"))
        self.add_node()
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()
        self.store.stop()

    def add_node(self) -> None:
        """Add a node to the head and the others."""
        self.nodes.append(self.cluster.add_node(**self._arguments(f"node{len(self.nodes)}")))

    def kill_node(self) -> None:
        """Kill all processes of the node that was added last; the head stays."""
        self.cluster.remove_node(self.nodes[-1], allow_graceful=False)

    def environment(self, name: str) -> dict[str, str]:
        """The variables of a process, such as a command, whose mirrors lie in a folder of its own."""
        own = {"COMPRESS_MIRRORS": str(self.folder / name), "COMPRESS_LEASE_BEAT": str(self.beat)}
        return {**os.environ, **self.store.environment, **own, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}

    def url(self, name: str) -> str:
        """The URL of a place for runs."""
        return f"s3://{BUCKET}/{name}"

    def drive(self, task: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        """Start to make a study's runs in a place, on the cluster; its output goes to ``NAME.log``.

        Args:
            task: the study, the epochs of its recipe, and which images it sees: every second, third, ... as a number.
        """
        command = [sys.executable, "-m", "benchmarks.study.rehearsal", *task, self.url(name), self.cluster.address]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=self.environment("driver"), stdout=log, stderr=log)

    def log(self, name: str) -> str:
        """What the commands that made a study's runs in a place have printed."""
        return (self.folder / f"{name}.log").read_text()

    def _arguments(self, name: str) -> dict[str, Any]:
        environment = self.environment(name)
        own = {key: value for key, value in environment.items() if os.environ.get(key) != value}
        memory = {"object_store_memory": 100 * 2**20}
        return {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False, "env_vars": own, **memory}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def main(study: str, epochs: str, every: str, runs: str, address: str | None = None) -> None:
    """Make the runs of a study in a directory or URL, on a cluster or one after the other."""
    import torch

    from benchmarks.study.ray_executor import RayExecutor
    from benchmarks.study.runner import Runner
    from benchmarks.study.setting import Setting
    from benchmarks.study.study import read_study
    from compress.data import open_dataset
    from compress.recipes import recipe_named
    from compress.stores.mirror import mirror
    from compress.training import Place

    read = read_study(study)
    whole = open_dataset(read.dataset)
    train, test = (part.subset(torch.arange(0, len(part), int(every))) for part in (whole.train, whole.test))
    setting = Setting(
        study=read,
        dataset=dataclasses.replace(whole, train=train, test=test),
        recipe=recipe_named(read.recipe, epochs=int(epochs)),
        place=Place(device="cpu", precision="fp32", runs=mirror(runs) if "://" in runs else Path(runs)),
    )
    make_all = RayExecutor.connect(address) if address else Runner.make_all
    make_all(Runner.of(setting))


if __name__ == "__main__":
    main(*sys.argv[1:])
