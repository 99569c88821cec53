"""Certifying early exit of a run: choose on validation images, certify on calibration images, then measure on test."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.certifying.exit_images import digest_of_part, given_weights, open_images
from benchmarks.certifying.exit_logits import Logits, exit_logits, opened_exits, placed
from benchmarks.certifying.exit_timing import ServedExits, measure_time
from benchmarks.certifying.exits_file import ExitPolicy, Point, write_policies
from benchmarks.measuring.compaction import BATCH_SIZES, compact_from, measure_compaction
from benchmarks.measuring.engines import engine_named
from benchmarks.measuring.engines.pytorch import DTYPES
from benchmarks.measuring.rounds import conditions
from benchmarks.statistics.difference import difference
from benchmarks.statistics.scores import Scores
from compress.accuracy_interval import accuracy_interval
from compress.console import console
from compress.data import Part, Split, normalise
from compress.documents import refuse_read_only
from compress.errors import UsageError, checked
from compress.inference import (
    Certificate,
    Policy,
    budget_shares,
    fit_temperatures,
    leaving_macs,
    mean_macs,
    policy_of_shares,
    simulate,
)
from compress.inference.certificate import RiskName
from compress.inference.certification import certify_path, worst_losses
from compress.inference.policy_path import choose_path
from compress.inference.possible_exits import MARGINS
from compress.inference.risks import Risk, risk_named
from compress.networks import Network, digest_of_weights
from compress.runs import Run, load

CURVE = 40  # policies of the path that are measured on test images


@checked
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be certified and measured.

    Attributes:
        risk: drop or agreement.
        epsilon, delta: P(risk <= epsilon) >= 1 - delta.
        engine, precision: what serves; runtimes serve fp32.
        budgets: mean MACs for which policies are chosen besides; nothing is guaranteed of them.
        calibration: "folder:PATH", images that certify in place of those that the run held out.
        seed: of the order of calibration images.
        latency: whether time is measured.
    """

    risk: RiskName = "drop"
    epsilon: float = 0.01
    delta: float = 0.05
    engine: str = "eager"
    precision: str = "fp32"
    budgets: tuple[float, ...] = ()
    calibration: str | None = None
    seed: int = 0
    threads: int = 1
    latency: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        risk_named(self.risk)
        for name, value in (("epsilon", self.epsilon), ("delta", self.delta)):
            if not 0 < value < 1:
                raise UsageError(f"{name} {value}: between 0 and 1")
        served = ("eager", "onnxruntime", "openvino")
        if self.engine not in served:
            raise UsageError(f"engine {self.engine!r}: early exit runs by {', '.join(served)}")
        if self.precision not in (MARGINS if self.engine == "eager" else ("fp32",)):
            raise UsageError(f"precision {self.precision!r}: eager has fp32 and bf16, the runtimes' cascades have fp32")


@checked
def certify_run(run: Run, wanted: Wanted, *, data_dir: Path | None = None) -> dict[str, Any]:
    """Certify early exit of a run, measure it, and write both into the run's `early_exit.json`.

    Returns:
        `run`; `certified`, and where it is false `reason` and `needed`, an estimated number of images or None;
        `policies`, as in the file.

    Raises:
        UsageError: the run has one exit or held out nothing, its data or weights are not here, or the engine is not.
    """
    if len(run.exits) < 2:
        raise UsageError(f"run {run.id} has one exit: nothing can leave early (compress train-mwbp makes several)")
    refuse_read_only(run.path)
    with contextlib.ExitStack() as opened:
        return _certified(Trial(run=run, wanted=wanted, data_dir=data_dir, opened=opened))


def _certified(trial: Trial) -> dict[str, Any]:
    """Certify, measure and write; see `certify_run`."""
    run, wanted = trial.run, trial.wanted
    engine_named(wanted.engine).check(wanted.precision, trial.device)
    split, network = trial.split, trial.network  # what is missing is said before anything is computed
    console.print(
        f"{run.id}: {wanted.engine} in {wanted.precision}, {len(network.spec.exits)} exits; choosing on "
        f"{len(split.validation):,} validation images, certifying on {len(split.calibration):,} calibration images"
    )
    if given_weights(run.record.config) and wanted.calibration is None:
        console.print(
            f"careful: {run.id} began with weights that were trained elsewhere: a certificate holds only if that "
            "training had none of these images; --calibration folder:PATH names others"
        )
    kept: list[tuple[Policy, Certificate | None, float | None]] = [
        (trial.budgeted(budget), None, budget) for budget in wanted.budgets
    ]
    found = trial.certified()
    if isinstance(found, Certificate):
        kept.append((trial.path[found.step], found, None))
    policies = [trial.measured(*each) for each in kept]
    if policies:
        write_policies(run, policies)
    outcome = {"certified": True} if isinstance(found, Certificate) else {"certified": False} | found
    return {"run": run.id} | outcome | {"policies": list(map(dataclasses.asdict, policies))}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run, what is wanted of it, and what follows from the two; logits of test images are computed last."""

    run: Run
    wanted: Wanted
    data_dir: Path | None = None
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @cached_property
    def network(self) -> Network:
        """The run's network."""
        return load(self.run)

    @cached_property
    def device(self) -> torch.device:
        """Where it is computed."""
        return engine_named(self.wanted.engine).device(self.wanted.device)

    @cached_property
    def answer(self) -> Callable[[Tensor], Logits]:
        """What computes the logits of every exit; it is closed when the trial is."""
        wanted = self.wanted
        return self.opened.enter_context(
            opened_exits(
                self.network,
                self.run.normalisation,
                engine=wanted.engine,
                precision=wanted.precision,
                device=self.device,
            )
        )

    @cached_property
    def split(self) -> Split:
        """The run's images, and the user's own to calibrate on where there are any."""
        wanted = self.wanted
        labelled = wanted.risk == "drop"  # agreement is with the last exit
        return open_images(self.run, self.data_dir, calibration=wanted.calibration, labelled=labelled)

    @cached_property
    def macs(self) -> NDArray[np.int64]:
        """MACs of leaving at each exit."""
        return leaving_macs(self.network)

    @cached_property
    def validation(self) -> Answered:
        """Validation images, on which policies are chosen."""
        return self._answered(self.split.validation)

    @cached_property
    def calibration(self) -> Answered:
        """Calibration images, on which the path is certified and which nothing else depends on."""
        return self._answered(self.split.calibration)

    @cached_property
    def test(self) -> Answered:
        """Test images, which are measured when all is chosen and certified."""
        return self._answered(self.split.test)

    @cached_property
    def path(self) -> list[Policy]:
        """Policies from conservative to eager."""
        images = self.validation
        return choose_path(
            images.logits,
            images.labels,
            risk_named(self.wanted.risk),
            macs=self.macs.tolist(),
            temperatures=fit_temperatures(images.logits, images.labels),
            weights=digest_of_weights(self.network),
        )

    def budgeted(self, budget: float) -> Policy:
        """The policy that spends a budget of mean MACs on validation images, as for MSDNet's budgeted batches."""
        return policy_of_shares(self.path[0], budget_shares(budget, self.macs), self.validation.logits)

    def certified(self) -> Certificate | dict[str, Any]:
        """The certificate of the most eager policy that has one, or why there is none."""
        wanted, images = self.wanted, self.calibration
        risk = risk_named(wanted.risk)
        found = certify_path(
            self.path,
            images.logits,
            images.labels,
            risk,
            epsilon=wanted.epsilon,
            delta=wanted.delta,
            margin=MARGINS[wanted.precision],
            seed=wanted.seed,
        )
        if found is None or found[0] == 0:  # by the first policy of the path no image leaves early
            return self._uncertified(risk)
        step, losses = found
        return Certificate(
            risk=wanted.risk,
            epsilon=wanted.epsilon,
            delta=wanted.delta,
            n=len(losses),
            observed=float(losses.mean()),
            bound=risk.bound(losses, wanted.epsilon, wanted.delta),
            margin=MARGINS[wanted.precision],
            step=step,
            steps=len(self.path),
            data=digest_of_part(self.split.calibration),
            weights=self.path[step].weights,
            policy=self.path[step].digest,
            engine=wanted.engine,
            precision=wanted.precision,
            device=self.device.type,
            seed=wanted.seed,
        )

    def _uncertified(self, risk: Risk) -> dict[str, Any]:
        """Why nothing is certified, and how many images would be needed; None where no number would do.

        It is estimated from the calibration images' losses by the most cautious policy that lets any leave early.
        """
        wanted, images, margin = self.wanted, self.calibration, MARGINS[self.wanted.precision]
        at_exits = risk.losses(images.logits, images.labels, margin)
        losses = worst_losses(self.path[1], images.logits, at_exits, margin)
        needed = risk.needed(losses, wanted.epsilon, wanted.delta)
        lost, allowed = f"{100 * float(losses.mean()):.2f}", f"{100 * wanted.epsilon:g}"
        said = (
            f"nothing can be certified with {len(losses):,} calibration images: the most cautious policy that lets any "
        )
        said += f"leave early has a risk of {lost} points on them; "
        if needed is None:
            said += f"that is not far enough below the {allowed} allowed, so no number of images would do"
        else:
            said += f"if that stayed so, an estimated {needed:,} would be needed; --calibration of train-mwbp sets the "
            said += "share that is held out, --calibration folder:PATH adds others"
        return {"reason": said, "needed": needed}

    def measured(self, policy: Policy, certificate: Certificate | None, budget: float | None) -> ExitPolicy:
        """A policy with all that is measured of it on test images."""
        wanted, test = self.wanted, self.test
        labels, exits, _ = simulate(test.logits, policy)
        right, last = labels == test.labels, test.logits[-1].argmax(axis=-1) == test.labels
        drop = difference(*(Scores(seeds=(0,), right=each[None]) for each in (last, right)))
        serving = ServedExits(
            network=self.network,
            normalisation=self.run.normalisation,
            policy=policy,
            engine=wanted.engine,
            precision=wanted.precision,
            device=self.device,
            threads=wanted.threads,
            compact=self.compact(policy),
        )
        return ExitPolicy(
            policy=policy,
            engine=wanted.engine,
            precision=wanted.precision,
            device=self.device.type,
            certificate=certificate,
            budget_macs=budget,
            val_accuracy=float((simulate(self.validation.logits, policy).labels == self.validation.labels).mean()),
            test_accuracy=float(right.mean()),
            test_interval=accuracy_interval(float(right.mean()), len(right)),
            test_drop=drop.estimate,
            drop_interval=drop.interval(),
            mean_macs=mean_macs(exits, self.macs),
            full_macs=int(self.run.exits[-1]["macs"]),
            shares=tuple(float((exits == exit).mean()) for exit in range(1, policy.exits + 1)),
            compact_from=serving.compact,
            measured=measure_time(serving, self.split.test) if wanted.latency else None,
            curve=self._curve() if certificate else [],
        )

    def compact(self, policy: Policy) -> bool | int:
        """From which batch size images that have left are taken out, as measured on validation images in eager.

        Where nothing is timed, and in cascades, they always are.
        """
        wanted, part = self.wanted, self.split.validation
        if not wanted.latency or wanted.engine != "eager":
            return True
        count = min(max(BATCH_SIZES), len(part))
        [images] = part.batches([torch.arange(count)])
        prepared = normalise(images.to(self.device), self.run.normalisation)
        with conditions(wanted.threads):
            return compact_from(
                measure_compaction(
                    placed(self.network, self.device),
                    prepared.contiguous(memory_format=torch.channels_last),
                    policy,
                    dtype=DTYPES[wanted.precision],
                )
            )

    def _curve(self) -> list[Point]:
        """Accuracy against mean MACs along the path, on test images."""
        every = max(1, len(self.path) // CURVE)
        found = [simulate(self.test.logits, policy) for policy in self.path[::every]]
        return [
            Point(mean_macs=mean_macs(exits, self.macs), test_accuracy=float((labels == self.test.labels).mean()))
            for labels, exits, _ in found
        ]

    def _answered(self, part: Part) -> Answered:
        return Answered(exit_logits(self.answer, part), part.labels.numpy(force=True))


class Answered(NamedTuple):
    """Logits of images at every exit, `(exits, N, classes)`, and their labels `(N,)`."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
