"""A cluster on paper: a study's runs on many nodes that fail at random, as a model of discrete events.

A node makes one run at a time. Runs begin in the order of the study, each when those behind it are made. A node that
fails loses what its run did since its last checkpoint, is away for a while, and another node goes on with the run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from compress.errors import UsageError

MOST_IN_VAIN = 10_000  # failures of nodes under runs in a row, after none of which anything was kept


@dataclass(frozen=True, kw_only=True)
class Work:
    """A run: its seconds on a node, its checkpoints, evenly spaced, and the positions of the runs behind it."""

    seconds: float
    checkpoints: int
    behind: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The nodes.

    Attributes:
        between_failures: mean seconds between two failures of one node, which come at random; infinite: none.
        repair: seconds for which a failed node is away.
        restart: seconds that it takes to go on with a run elsewhere: to notice, to start a process, to read the data.
    """

    nodes: int
    between_failures: float = math.inf
    repair: float = 3600.0
    restart: float = 60.0


@dataclass(kw_only=True)
class Passed:
    """What became of a study.

    Attributes:
        seconds: until its last run was made.
        lost: seconds of nodes that were spent between a checkpoint and a failure.
        restarting: seconds of nodes that were spent on going on with runs.
        restarts: how often a run was gone on with.
        failures: of nodes, whether they were working or not.
    """

    seconds: float = 0.0
    lost: float = 0.0
    restarting: float = 0.0
    restarts: int = 0
    failures: int = 0


def critical_path(works: Sequence[Work]) -> float:
    """The seconds of the longest chain of runs that wait for each other."""

    @cache
    def end(position: int) -> float:
        work = works[position]
        return work.seconds + max(map(end, work.behind), default=0.0)

    return max(map(end, range(len(works))), default=0.0)


def simulate_cluster(works: Sequence[Work], machines: Machines, *, seed: int = 0) -> Passed:
    """What becomes of runs on these machines; failures are drawn at random.

    Raises:
        UsageError: nodes fail so often that runs never get from one checkpoint to the next.
    """
    return _Simulation(works, machines, np.random.default_rng(seed)).run()


@dataclass
class _Simulation:
    """A simulation under way. A `life` of a node ends with a failure, and with it what the node was making."""

    works: Sequence[Work]
    machines: Machines
    random: np.random.Generator
    passed: Passed = field(default_factory=Passed)

    def run(self) -> Passed:
        count, machines = len(self.works), self.machines
        self.left = [work.seconds for work in self.works]
        self.tries = [0] * count
        self.waits = [len(set(work.behind)) for work in self.works]
        self.after: list[list[int]] = [[] for _ in self.works]
        for position, work in enumerate(self.works):
            for other in set(work.behind):
                self.after[other].append(position)
        self.ready = [position for position in range(count) if not self.waits[position]]  # a heap, as it is sorted
        self.idle = list(range(machines.nodes))
        self.lives = [0] * machines.nodes
        self.making: dict[int, tuple[int, float]] = {}  # a node's run, and when it began to make progress
        self.ends: list[tuple[float, int, int]] = []  # when a node in one of its lives has made its run
        self.changes: list[tuple[float, int]] = []  # when a node fails, or is back
        if math.isfinite(machines.between_failures):
            draws = self.random.exponential(machines.between_failures, machines.nodes)
            self.changes = [(float(time), node) for node, time in enumerate(draws)]
            heapq.heapify(self.changes)
        self.away: set[int] = set()
        self.in_vain = 0
        now, made = 0.0, 0
        while made < count:
            self._begin(now)
            if self.changes and (not self.ends or self.changes[0][0] < self.ends[0][0]):
                now, node = heapq.heappop(self.changes)
                self._change(node, now)
                continue
            now, node, life = heapq.heappop(self.ends)
            if life == self.lives[node]:
                self._finish(node)
                made += 1
        self.passed.seconds = now
        return self.passed

    def _begin(self, now: float) -> None:
        while self.ready and self.idle:
            run, node = heapq.heappop(self.ready), heapq.heappop(self.idle)
            again = self.machines.restart if self.tries[run] else 0.0
            self.passed.restarts += self.tries[run] > 0
            self.passed.restarting += again
            self.tries[run] += 1
            self.making[node] = run, now + again
            heapq.heappush(self.ends, (now + again + self.left[run], node, self.lives[node]))

    def _finish(self, node: int) -> None:
        run, _ = self.making.pop(node)
        self.in_vain = 0
        heapq.heappush(self.idle, node)
        for other in self.after[run]:
            self.waits[other] -= 1
            if not self.waits[other]:
                heapq.heappush(self.ready, other)

    def _change(self, node: int, now: float) -> None:
        """Let a node fail, or come back."""
        if node in self.away:
            self.away.remove(node)
            heapq.heappush(self.idle, node)
            heapq.heappush(self.changes, (now + float(self.random.exponential(self.machines.between_failures)), node))
            return
        self.passed.failures += 1
        self.lives[node] += 1
        self.away.add(node)
        heapq.heappush(self.changes, (now + self.machines.repair, node))
        if node not in self.making:
            self.idle.remove(node)
            heapq.heapify(self.idle)
            return
        run, began = self.making.pop(node)
        work, spent = self.works[run], max(now - began, 0.0)
        apart = work.seconds / max(work.checkpoints, 1)
        kept = min(math.floor(spent / apart + 1e-9) * apart, self.left[run]) if apart else 0.0
        self.left[run] -= kept
        self.in_vain = 0 if kept else self.in_vain + 1
        if self.in_vain > MOST_IN_VAIN:
            raise UsageError("--between-failures: so few hours that runs never get from one checkpoint to the next")
        self.passed.lost += spent - kept
        heapq.heappush(self.ready, run)
