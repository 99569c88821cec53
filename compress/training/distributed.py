"""Training in several processes started by torchrun, each on its share of every batch.

A recipe's batch size is global. All processes draw the same order, crops and flips, and batch norm statistics and
gradients are those of the whole batch, so any number of processes takes the same steps as a single process. Only rank 0
reads and writes run directories and prints.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from compress.console import console
from compress.errors import UsageError
from compress.training.batchnorm import synchronise

PATIENCE = timedelta(hours=1)  # others wait this long while rank 0 evaluates the test images
LAST_WORDS = 2.0  # seconds

Value = TypeVar("Value")


class LostProcessError(UsageError):
    """Another process of the job ended early."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The number of processes that train together, and the rank of this process; a single process by default."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process has rank 0, which reads, writes and prints."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a global batch `(N, ...)`: `(N / size, ...)`."""
        return batch.chunk(self.size)[self.rank]

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.size > 1:
            values = values.clone()
            with naming_lost_processes():
                dist.all_reduce(values)
        return values

    def on_leader(self, function: Callable[[], Value]) -> Value:
        """Call a function on rank 0 only and return its result in every process.

        Raises:
            UsageError: the function raised an exception (rank 0 raises the exception itself).
            LostProcessError: rank 0 has ended.
        """
        if self.size == 1:
            return function()
        answer: list[tuple[Value | None, str | None]] = [(None, None)]
        failure = None
        if self.leads:
            try:
                answer = [(function(), None)]
            except Exception as error:
                failure, answer = error, [(None, str(error))]
        with naming_lost_processes():
            dist.broadcast_object_list(answer, src=0)
        if failure is not None:
            raise failure
        [(value, message)] = answer
        if message is not None:
            raise UsageError(message)
        return value  # type: ignore[return-value]  # None only where the function returned it

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Wrap a network for parallel training; its batch norms become synchronised in place.

        Evaluate and save the network itself. Frozen parameters must be frozen before.
        """
        if self.size == 1:
            return network
        synchronise(network, device)
        return DistributedDataParallel(network)

    def check_device(self, device: torch.device) -> None:
        """Raise UsageError if this process has no GPU of its own."""
        if self.size == 1 or device.type != "cuda":
            return
        if device.index is not None:
            raise UsageError(f"device {device}: torchrun gives every process a GPU of its own; use --device cuda")
        local, gpus = dist.get_node_local_rank(fallback_rank=0), torch.cuda.device_count()
        if local >= gpus:
            raise UsageError(f"process {local + 1} of this machine finds {gpus} GPUs: use --nproc-per-node {gpus}")

    def check_batch(self, batch_size: int) -> None:
        """Raise UsageError if a global batch cannot be split evenly."""
        if batch_size % self.size == 0:
            return
        below = [size for size in range(1, self.size) if batch_size % size == 0][-1:]
        above = [size for size in range(self.size + 1, batch_size + 1) if batch_size % size == 0][:1]
        smaller = batch_size // self.size * self.size
        batches = [str(batch) for batch in (smaller, smaller + self.size) if batch]
        raise UsageError(
            f"a batch of {batch_size} images does not split evenly over {self.size} processes: use "
            f"{' or '.join(map(str, below + above))} processes, or a recipe with a batch of {' or '.join(batches)} "
            "(train: --batch-size)"
        )

    def check_update(self, update: str) -> None:
        """Raise UsageError if several processes cannot take this update of MW-BP."""
        if self.size > 1 and update == "sequential":
            raise UsageError(
                "the sequential update takes several backward passes of one forward pass, of which torch's "
                "DistributedDataParallel averages one: use --update simultaneous, or one process"
            )

    def check_same(self, run: str) -> None:
        """Raise UsageError in every process if the processes were started with different runs (by id)."""
        if self.size == 1:
            return
        runs = [""] * self.size
        with naming_lost_processes():
            dist.all_gather_object(runs, run)
        for rank, other in enumerate(runs):
            if other != runs[0]:
                raise UsageError(
                    f"rank {rank} is to do run {other}, rank 0 {runs[0]}: every process needs the same command, data "
                    f"and precision (on unlike machines, say --precision)"
                )


def current_world() -> World:
    """The world that this process has joined; a single process if it has joined none."""
    if dist.is_available() and dist.is_initialized():
        return World(rank=dist.get_rank(), size=dist.get_world_size())
    return World()


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Join the world of torchrun's environment variables; without these, yield a world of a single process.

    All processes but rank 0 are silenced. The first process that fails raises its exception; the others exit silently
    with status 2.

    Raises:
        LostProcessError: another process ended early.
    """
    if "LOCAL_RANK" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        yield World()
        return
    cuda, local_rank = torch.cuda.is_available(), int(os.environ["LOCAL_RANK"])
    if cuda and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)  # what "cuda" means from here on
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    with naming_lost_processes():
        store, rank, size = next(rendezvous("env://"))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        with contextlib.nullcontext() if rank == 0 else _silence():
            yield current_world()
    except BaseException as error:
        # The group is left standing: with NCCL, leaving it would wait for what will never come.
        if _first_to_fail(store, rank, error):
            raise
        time.sleep(LAST_WORDS)  # as soon as one process has left, torchrun ends the others: the first one speaks first
        raise SystemExit(2) from error
    dist.destroy_process_group()


@contextlib.contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Turn the error that torch raises when another process has ended into a LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise LostProcessError(
            "another process of this job ended early (torchrun says which one and how, below); "
            "the same command goes on from the last finished epoch"
        ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        console.quiet = True
        try:
            yield
        finally:
            console.quiet = False


def _first_to_fail(store: Store, rank: int, error: BaseException) -> bool:
    """Whether no other process failed before this one, by a counter in torchrun's store.

    Waits for rank 0, which may have the same failure to record, unless rank 0 was lost.
    """
    first = True
    with contextlib.suppress(dist.DistError):  # torchrun itself, or rank 0, may be gone
        first = store.add("failed", 1) == 1
        if rank == 0:
            store.set("rank 0 has failed", "")
        elif not isinstance(error, LostProcessError):
            store.wait(["rank 0 has failed"], timedelta(seconds=LAST_WORDS))
    return first
