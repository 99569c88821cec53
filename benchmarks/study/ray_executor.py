"""The executor of studies on Ray: connects to a cluster, starts or finds the study's conductor, and shows its news."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from benchmarks.study.graph import Node
from benchmarks.study.ray_conductor import Conductor, News, awaited_run, slots
from benchmarks.study.runner import Runner
from compress.console import console
from compress.errors import UsageError, reason
from compress.stores.mirror import mirror_of

NAMESPACE = "compress"
HEAD = {"node:__internal_head__": 0.001}  # where the conductor runs: without that node there is no cluster either
PATIENCE = 10.0  # seconds for the head to answer
LONGEST = 3600.0  # seconds without news, after which the conductor is asked again
LOSSES = 5  # of a conductor in a row without news, after which the cluster is given up


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Makes the runs of a study on the Ray cluster that this process is connected to: call it with a `Runner`.

    Attributes:
        gpus, cpus: of every run; a share of a GPU lets several runs use it. None: a GPU where the cluster has any and
            the device allows it.
        device: that runs are computed on, which this machine need not have; None: that of the setting.
    """

    gpus: float | None = None
    cpus: float = 1
    device: str | None = None

    @classmethod
    def connect(
        cls, address: str, *, gpus: float | None = None, cpus: float = 1, device: str | None = None
    ) -> RayExecutor:
        """Connect this process to a cluster.

        Args:
            address: ``auto``, or HOST:PORT of the cluster's head.
            gpus, cpus, device: as the attributes.

        Raises:
            UsageError: there is no cluster at the address, or no node has the resources of a run.
        """
        _check_answers(address)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from error
        for number, handler in handlers.items():  # Ray sets its own
            signal.signal(number, handler)
        for option, name, asked in (("gpus-per-run", "GPU", gpus or 0), ("cpus-per-run", "CPU", cpus)):
            if asked > (most := _most(name)):
                raise UsageError(f"--{option} {asked:g}: no node of the cluster has more than {most:g} {name}s")
        return cls(gpus=gpus, cpus=cpus, device=device)

    def __call__(self, runner: Runner) -> None:
        """Make all missing runs; Ctrl-C and a time limit stop them, and the death of this process does not.

        Raises:
            UsageError: the study's reference could not be made, or the cluster was lost.
        """
        resources = self._resources(runner)
        losses = 0
        while True:
            conductor = self._conductor(runner, resources)
            try:
                if _asked(runner, conductor.over.remote()):
                    ray.kill(conductor)  # of a command that died: what failed for it is tried again
                    continue
                known, done = 0, False
                while not done:
                    news, done = _asked(runner, conductor.news.remote(known))
                    known, losses = known + len(news), 0
                    _enter(runner, news)
                break
            except GetTimeoutError:
                if time.monotonic() >= runner.until:
                    break  # runs under way stop, and go on from their checkpoints some other time
            except RayActorError as error:
                losses += 1
                if losses == LOSSES:
                    raise UsageError(f"the cluster lost the study {LOSSES} times: {reason(error)}") from error
                console.print("the study's conductor is gone; a new one goes on")
            except (KeyboardInterrupt, UsageError):
                ray.kill(conductor)
                raise
        ray.kill(conductor)
        runner.conclude()

    def _resources(self, runner: Runner) -> dict[str, float]:
        """The resources of every run, as options of a Ray task; tells the runner how many are made at once.

        Raises:
            UsageError: no node has them, or they are none.
        """
        gpus = self.gpus
        if gpus is None:
            gpus = 1.0 if _most("GPU") and self._device(runner) != "cpu" else 0.0
        nodes, each = _living(), f"{self.cpus:g} CPUs and {gpus:g} GPUs each"
        if not self.cpus and not gpus:
            raise UsageError("--cpus-per-run 0: without a GPU all runs would begin at once")
        runner.abreast = slots(nodes, self.cpus, gpus)
        if not runner.abreast:  # each resource may be there, on different nodes
            raise UsageError(f"no node of the cluster has {self.cpus:g} CPUs and {gpus:g} GPUs, which a run asks for")
        console.print(f"Ray: {len(nodes)} nodes, {runner.abreast} runs at once, {each}")
        return {"num_cpus": self.cpus, "num_gpus": gpus}

    def _device(self, runner: Runner) -> str:
        return self.device or runner.outcomes.setting.place.device

    def _conductor(self, runner: Runner, resources: dict[str, float]) -> Any:
        """The study's conductor: one that is there already, as of a command that died, or a new one."""
        outcomes, setting = runner.outcomes, runner.outcomes.setting
        place = mirror_of(setting.place.runs)
        url = place.store.url if place else None
        runs = Path(url) if url else setting.place.runs.absolute()  # by which all nodes see it; mirrors differ
        device = self._device(runner)
        if device == "auto" and not resources["num_gpus"]:
            device = "cpu"  # Ray does not hide GPUs from runs that ask for none
        setting = dataclasses.replace(setting, place=dataclasses.replace(setting.place, runs=runs, device=device))
        what = [setting.study, setting.recipe, setting.dataset.digest, setting.place, url, resources]
        name = f"study-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}"
        found = {position: run.id for position, node in enumerate(outcomes.nodes) if (run := outcomes.runs.get(node))}
        kind = ray.remote(Conductor).options(
            name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0, resources=HEAD
        )
        return kind.remote(setting, url, resources, found)


def _asked(runner: Runner, answer: Any) -> Any:
    """What the conductor answers; raises GetTimeoutError after `LONGEST` seconds, and when no time is left."""
    return ray.get(answer, timeout=min(max(runner.until - time.monotonic(), 0), LONGEST))


def _enter(runner: Runner, news: Sequence[News]) -> None:
    """Enter what became of runs into the outcomes, and print it.

    Raises:
        UsageError: the study's reference could not be made.
    """
    outcomes = runner.outcomes
    for each in news:
        node = outcomes.nodes[each.position]
        if node in outcomes.runs:  # found before the conductor began, or entered from an earlier one
            continue
        if each.kind == "begun":
            console.print(f"{node}: on {each.text}")
        elif each.kind == "held":
            console.print(f"{node}: left to the process that holds {each.text}")
        elif each.kind == "failed":
            _fail(runner, node, UsageError(each.text))
        else:
            try:
                outcomes.runs[node] = awaited_run(each.text, outcomes.setting.place.runs)
                done = f"[{len(outcomes.runs)}/{len(outcomes.nodes)}] {node}: {each.text}"
                console.print(f"{done}; about {runner.time_left()} left for all")
            except UsageError as error:
                _fail(
                    runner,
                    node,
                    UsageError(
                        f"made on a node, but not to be found here, so --runs is no place that all share: {error}"
                    ),
                )


def _fail(runner: Runner, node: Node, error: UsageError) -> None:
    runner.outcomes.runs[node] = None
    runner.note(node, error)
    if runner.outcomes.lost:
        raise UsageError(f"the study's reference did not run: {runner.failures[-1]}")


def _living() -> list[dict[str, float]]:
    """The resources of the cluster's living nodes."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _most(name: str) -> float:
    """The most of a resource that any node has."""
    return max((held.get(name, 0) for held in _living()), default=0)


def _check_answers(address: str) -> None:
    """Refuse HOST:PORT where nothing listens; Ray would take minutes to find that out."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdecimal():
        raise UsageError(f"--address {address}: auto, or HOST:PORT of the cluster's head")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UsageError:
    mend = "start one: ray start --head" if address == "auto" else "is its head running, and is this the right port?"
    return UsageError(f"--address {address}: there is no Ray cluster ({reason(error)}); {mend}")
