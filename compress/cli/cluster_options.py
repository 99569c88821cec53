"""Options of `compress study` that spread its runs over a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from compress.cli.options import Whole, options
from compress.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.study.cluster_plan import ClusterPlan
    from benchmarks.study.runner import Runner
    from benchmarks.study.study import Study
    from compress.recipes import Recipe
    from compress.training import Place


@options("Cluster")
@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """What makes the runs of a study.

    Attributes:
        executor: local: this process, one run after the other; ray: a Ray cluster, as many at once as it holds.
        address: The Ray cluster: auto (the one of this machine, or $RAY_ADDRESS) or HOST:PORT of its head.
        gpus_per_run: GPUs of every run, such as 0.25 where four share one (default: 1 where the cluster has any).
        cpus_per_run: CPU cores of every run.
        nodes: With --dry-run: the plan, on paper, of all runs on a cluster of so many nodes of one GPU.
        gpu_macs: MACs that its GPUs sustain in training, a second.
        between_failures: Mean hours between two failures of one of its nodes.
        like: Plan for as many and as large images as those of this data set, such as imagenet (default: the study's).
    """

    executor: Literal["local", "ray"] = "local"
    address: str = "auto"
    gpus_per_run: Annotated[float | None, Parameter(show_default=False)] = None
    cpus_per_run: float = 1.0
    nodes: Annotated[Whole | None, Parameter(show_default=False)] = None
    gpu_macs: float = 1e13
    between_failures: float = 1000.0
    like: str | None = None

    def _check_heeded(self) -> None:
        """Refuse what would be asked for in vain."""
        usual, on_paper = ClusterOptions(), ("gpu_macs", "between_failures", "like")
        changed = [name for name, value in vars(self).items() if value != getattr(usual, name)]
        for name in changed:
            option = f"--{name.replace('_', '-')} {getattr(self, name)}"
            if name in on_paper and self.nodes is None:
                raise UsageError(f"{option}: is for the plan on paper, --dry-run --nodes")
            if name in ("address", "gpus_per_run", "cpus_per_run") and self.executor == "local":
                raise UsageError(f"{option}: is for --executor ray")

    def check(self, *, dry_run: bool) -> None:
        """Refuse --nodes without a dry run, a number that is out of range, and Ray where it is not installed."""
        for option, value in (("gpus-per-run", self.gpus_per_run), ("cpus-per-run", self.cpus_per_run)):
            if value is not None and not 0 <= value < 1e6:
                raise UsageError(f"--{option} {value:g}: 0 or more")
            if value is not None and value > 1 and value % 1:
                raise UsageError(f"--{option} {value:g}: a share of one, or a whole number")
        self._check_heeded()
        if self.nodes is not None and not dry_run:
            raise UsageError(f"--nodes {self.nodes}: is for the plan on paper, --dry-run")
        if self.executor == "ray" and not dry_run and find_spec("ray") is None:
            raise UsageError("--executor ray: Ray is not installed; pip install 'multiway-compress[cluster]'")

    def place(self, asked: Place) -> Place:
        """Return the place of a study as this machine has it: where Ray makes the runs, other machines compute them.

        There the precision does not depend on the node, as a run would have another id on each, and a GPU need not be
        here. `execute` names the device that was asked for.
        """
        if self.executor == "local":
            return asked

        from compress.console import console
        from compress.hardware import resolve_device

        changes: dict[str, Any] = {}
        if asked.precision == "auto":
            console.print("precision: fp32, alike on all nodes, which auto may not be")
            changes["precision"] = "fp32"
        try:
            resolve_device(asked.device)
        except UsageError:
            console.print(f"device {asked.device}: of the nodes; this machine has none")
            changes["device"] = "auto"
        return dataclasses.replace(asked, **changes)

    def execute(self, *, dry_run: bool, device: str = "auto") -> Callable[[Runner], None] | None:
        """Return what makes the runs of a study on a device; None for this process alone, and for a dry run.

        Raises:
            UsageError: there is no such cluster, or no node of it has the resources of a run.
        """
        if self.executor == "local" or dry_run:
            return None

        from benchmarks.study.ray_executor import RayExecutor

        return RayExecutor.connect(self.address, gpus=self.gpus_per_run, cpus=self.cpus_per_run, device=device)

    def plan(self, study: Study, recipe: Recipe) -> ClusterPlan:
        """Return the plan of a study on a cluster.

        Raises:
            UsageError: a number is out of range, or the study's data set is of unknown size.
        """
        from benchmarks.study.cluster_plan import ClusterPlan, on_paper

        numbers = {"nodes": self.nodes, "gpu-macs": self.gpu_macs, "between-failures": self.between_failures}
        for option, value in numbers.items():
            if not value or not 0 < value < 1e18:
                raise UsageError(f"--{option} {value}: a number above 0")
        return ClusterPlan(
            setting=on_paper(study, recipe, self.like),
            nodes=self.nodes or 1,
            gpu_macs=self.gpu_macs,
            between_failures=self.between_failures,
        )


CLUSTER = ClusterOptions()
