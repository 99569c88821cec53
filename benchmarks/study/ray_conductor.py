"""The conductor of a study on Ray: an actor that owns the tasks of all runs, each begun when those behind it are made.

It outlives the command that started it, so that the same command finds it again by its name. Every run is a task with
its own resources, which Ray starts again where a worker or a node dies.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray

from benchmarks.study.graph import Node
from benchmarks.study.outcomes import Outcomes
from benchmarks.study.runner import PATIENCE, make
from benchmarks.study.setting import Setting
from compress.errors import UsageError, reason
from compress.runs import InUseError, Run, claimed, find_run
from compress.stores.mirror import acting_for, mirror
from compress.stores.object_store import OUTAGE

RETRIES = 20  # of a run whose worker or node dies
HELD = 15.0  # seconds until a run that another process makes is looked for again; a task of it waits PATIENCE first
FOUND = 120.0  # seconds for a finished run to be found in a mirror that a neighbour is just filling
LOOK = 0.5  # seconds between two looks for it
KEPT = 86_400.0  # seconds for which a study that has ended waits for a command to ask what became of it


@dataclass(frozen=True)
class News:
    """What became of a run.

    Attributes:
        position: of its node, in the order of `Outcomes.nodes`.
        text: the host where it ``begun``, the id of the run that was ``made``, the reason why it ``failed``, or the id
            of a run that another process holds.
    """

    position: int
    kind: Literal["begun", "made", "failed", "held"]
    text: str


class Conductor:
    """Makes all runs of a study; to be an actor.

    Args:
        url: of the store that keeps the runs; None: a directory that all nodes share, in the setting.
        resources: of every run, as options of a Ray task.
        found: the runs that are finished already: their ids by the position of their nodes.
    """

    def __init__(self, setting: Setting, url: str | None, resources: Mapping[str, Any], found: Mapping[int, str]):
        self.outcomes = Outcomes(setting=setting)
        # Put here, so that it lives as long as this actor, not as the command that started it.
        self.shared, self.url = ray.put(setting), url
        # Not by `options`, which forget that a worker with a GPU makes one run: the next one may be given another GPU.
        self.task = ray.remote(max_retries=RETRIES, **resources)(make_run)
        self.session = uuid.uuid4().hex
        self.made: dict[int, str | None] = dict(found)
        self.log: list[News] = [News(position, "made", id) for position, id in found.items()]
        self.grown = asyncio.Event()
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.tries: Counter[int] = Counter()

    async def over(self) -> bool:
        """Whether every run has an outcome, as some command asked for them before."""
        return bool(self.tasks) and len(self.made) == len(self.outcomes.nodes)

    async def news(self, known: int) -> tuple[list[News], bool]:
        """What the log has beyond its `known` first lines, once it has more; and whether every run has an outcome."""
        if not self.tasks:
            self._start()
        while len(self.log) <= known and len(self.made) < len(self.outcomes.nodes):
            self.grown.clear()
            await self.grown.wait()
        return self.log[known:], len(self.made) == len(self.outcomes.nodes)

    async def begun(self, position: int, host: str) -> int:
        """Note that a task has begun on a host; returns the number of this try."""
        self._tell(News(position, "begun", host))
        self.tries[position] += 1
        return self.tries[position]

    def _start(self) -> None:
        """Start all that is missing; a run begins when everything that it is made from has an outcome."""
        me = ray.get_runtime_context().current_actor
        for position in range(len(self.outcomes.nodes)):
            self.tasks[position] = asyncio.ensure_future(self._conduct(position, me))
        self.end = asyncio.ensure_future(self._end(me))

    async def _end(self, me: Any) -> None:
        """End this actor, which holds the images, some time after all runs, in case that no command does."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await asyncio.sleep(KEPT)
        ray.kill(me)

    async def _conduct(self, position: int, me: Any) -> None:
        if position in self.made:
            return
        nodes = self.outcomes.nodes
        behind = [nodes.index(node) for node in self.outcomes.behind(nodes[position])]
        await asyncio.gather(*(self.tasks[other] for other in behind))
        known = {other: self.made[other] for other in behind}
        owner = f"{self.session}/{position}"
        while True:
            self.tries[position] = 0
            try:
                news = await self.task.remote(self.shared, self.url, position, known, owner, me)
            except Exception as error:  # of any kind, as a coroutine that ended silently would be waited for forever
                news = News(position, "failed", f"Ray gave it up: {reason(error)}")
            if news.kind != "held":
                break
            self._tell(news)
            await asyncio.sleep(HELD)
        self.made[position] = news.text if news.kind == "made" else None
        self._tell(news)

    def _tell(self, news: News) -> None:
        self.log.append(news)
        self.grown.set()


def make_run(
    setting: Setting, url: str | None, position: int, known: Mapping[int, str | None], owner: str, conductor: Any
) -> News:
    """Make one run, on the node that Ray chose; to be a task.

    Args:
        url, setting: as the conductor has them.
        position: of the run's node.
        known: the outcomes of all that it is made from: ids of runs, None where one could not be made.
        owner: in whose name the run is held, so that a new try need not wait for a dead one.
        conductor: is told where it begins, and counts the tries; None: nobody.
    """
    try:
        runs = mirror(url, whole=False, patience=OUTAGE) if url else setting.place.runs
        outcomes = Outcomes(setting=dataclasses.replace(setting, place=dataclasses.replace(setting.place, runs=runs)))
        node = outcomes.nodes[position]
        if conductor is not None:
            tries = ray.get(conductor.begun.remote(position, socket.gethostname()))
            if tries > RETRIES + 1:  # Ray does not count workers that it kills itself where a node's memory is full
                return News(position, "failed", f"its worker died {tries - 1} times")
        with acting_for(owner):
            for other, id in known.items():
                outcomes.runs[outcomes.nodes[other]] = awaited_run(id, runs) if id else None
            return _made(outcomes, node, position)
    except Exception as error:  # of any kind: one run that fails must not cost the others
        return News(position, "failed", reason(error))


def _made(outcomes: Outcomes, node: Node, position: int) -> News:
    """Make the run of a node, waiting a while for another process that holds it."""
    for patience in (PATIENCE, 0):
        try:
            return News(position, "made", make(outcomes, node).id)
        except InUseError as error:
            held = error
            try:
                with claimed(error.path, patience=patience):
                    pass
            except InUseError:
                break
    return News(position, "held", held.path.name)


def awaited_run(id: str, runs: Path) -> Run:
    """The finished run, which another process of this machine may just be fetching from the store.

    Raises:
        UsageError: it is not there even after `FOUND` seconds.
    """
    until = time.monotonic() + FOUND
    while True:
        try:
            return find_run(id, runs)
        except UsageError:
            if time.monotonic() > until:
                raise
            time.sleep(LOOK)


def slots(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """How many runs of these resources nodes make at once, by the resources of each."""
    asked = [(name, share) for name, share in (("CPU", cpus), ("GPU", gpus)) if share]
    return int(sum(min(held.get(name, 0) // share for name, share in asked) for held in nodes)) if asked else 1
