"""Exits file: `early_exit.json` in a run directory, early-exit policies of the run and what was measured of them."""

from __future__ import annotations

import dataclasses
from typing import Literal

from compress.console import console
from compress.documents import read_kept
from compress.inference import Certificate, Policy
from compress.records import Above, Count, Number, Share, Shares
from compress.runs import EARLY_EXIT, Run, write_json
from compress.schema import Struct

SCHEMA_VERSION = 1
MEND = "compress exits certifies and measures again"
Quartiles = tuple[float, float, float]
Interval = tuple[float, float]  # 95%


class Timing(Struct, frozen=True, kw_only=True):
    """Times of early exit at one batch size and of static networks, measured in turn on the same test images.

    Attributes:
        mean_macs: of early exit on the images timed.
        seconds: an image, by early exit; quartiles over the rounds.
        ratio: to the whole network's last exit alone in the same round; quartiles.
        ratio_interval: 95% interval of the median ratio; None where there were too few rounds.
        idle_ratio: the same ratio of early exit by which no image leaves: its overhead.
        static_seconds, static_ratios: of every exit as a network of its own, shallow to deep.
    """

    batch_size: Number
    images: Number
    mean_macs: Above
    seconds: Quartiles
    ratio: Quartiles
    ratio_interval: Interval | None
    idle_ratio: Quartiles
    static_seconds: list[Quartiles]
    static_ratios: list[Quartiles]


class Measured(Struct, frozen=True, kw_only=True):
    """Measured time of early exit: the conditions, and a row a batch size."""

    device: str
    hardware: str
    threads: Number
    rounds: Number
    noisy: bool
    rows: list[Timing]


class Point(Struct, frozen=True, kw_only=True):
    """A policy of the path: the mean MACs of test images and their accuracy. Nothing is chosen on it."""

    mean_macs: Above
    test_accuracy: Share


class ExitPolicy(Struct, frozen=True, kw_only=True):
    """A policy of a run, and what was measured of it.

    Attributes:
        engine, precision, device: what computed the logits; files that name no device were made on the CPU.
        certificate: None for a policy chosen for a budget of MACs, which nothing is guaranteed of.
        budget_macs: the budget that the policy was chosen for; None where it was certified.
        val_accuracy: on validation images, on which the policy was chosen.
        test_accuracy, test_interval: on test images, with its 95% interval.
        test_drop, drop_interval: accuracy of the last exit less that of early exit, on the same test images.
        mean_macs, full_macs: MACs of an image, the mean over test images and those of the whole network.
        shares: share of test images that leave at every exit, shallow to deep.
        compact_from: smallest batch that images that have left are taken out of, see `EarlyExit`; False: of none.
        measured: time of early exit; None where it was not measured.
        curve: accuracy against mean MACs along the path that the policy is on, on test images.
    """

    policy: Policy
    engine: str
    precision: str
    device: str = "cpu"
    certificate: Certificate | None = None
    budget_macs: Above | None = None
    val_accuracy: Share
    test_accuracy: Share
    test_interval: Interval
    test_drop: float
    drop_interval: Interval
    mean_macs: Above
    full_macs: Count
    shares: Shares
    compact_from: bool | int = True
    measured: Measured | None = None
    curve: list[Point] = dataclasses.field(default_factory=list)

    @property
    def server(self) -> tuple[str, str, str]:
        """What the policy was chosen for: engine, precision and device."""
        return (self.engine, self.precision, self.device)

    @property
    def kind(self) -> tuple[object, ...]:
        """What a later policy replaces an earlier one for."""
        risk = (self.certificate.risk, self.certificate.epsilon, self.certificate.delta) if self.certificate else ()
        return (*self.server, self.budget_macs, *risk)


class ExitsFile(Struct, frozen=True, kw_only=True):
    """The content of `early_exit.json`."""

    schema: Literal[1]
    policies: list[ExitPolicy]


def read_policies(run: Run) -> list[ExitPolicy]:
    """The run's early-exit policies, newest last; an empty list where there is no file, or none that fits the run."""
    kept = read_kept(run.path / EARLY_EXIT, ExitsFile, MEND)
    policies = kept[1].policies if kept else []
    if any(each.policy.exits != len(run.exits) or len(each.shares) != len(run.exits) for each in policies):
        console.print(f"skipped: {run.path / EARLY_EXIT} is not of the run's {len(run.exits)} exit(s); {MEND}")
        return []
    return policies


def write_policies(run: Run, policies: list[ExitPolicy]) -> None:
    """Put policies into the run's `early_exit.json`, in place of earlier ones for the same purpose."""
    kinds = [policy.kind for policy in policies]
    kept = [policy for policy in read_policies(run) if policy.kind not in kinds]
    written = [dataclasses.asdict(policy) for policy in (*kept, *policies)]
    write_json(run.path / EARLY_EXIT, {"schema": SCHEMA_VERSION, "policies": written})
