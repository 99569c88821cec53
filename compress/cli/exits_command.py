"""`compress exits`: early exit of a finished run, chosen, certified and measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.cli.options import OUTPUT, PLACE, Flag, Output, PlaceOptions, Seed, Whole, numbers, options
from compress.data.catalogue import check_own_images
from compress.errors import UsageError
from compress.runs import find_run


@options("Method")
@dataclass(frozen=True, kw_only=True)
class GuaranteeOptions:
    """What is guaranteed, of what, and for which engine.

    Attributes:
        max_drop: Largest risk allowed, in percentage points: of accuracy lost, or of labels changed.
        confidence: Confidence of the guarantee, in percent, over calibration sets.
        risk: drop (in accuracy against the last exit) or agreement (share of labels that differ from the last exit's).
        engine: What serves: eager, onnxruntime or openvino; a certificate holds for one engine, precision and device.
        precision: fp32, or bf16 where eager has it.
        budget_macs: Also choose policies that spend these MACs an image on average, separated by commas; nothing is
            guaranteed of them.
        calibration: folder:PATH, images that certify in place of those that the run held out, and that no training had:
            folders of the run's classes; for agreement any folder.
        seed: Random seed of the order in which the test takes the calibration images.
        threads: Threads of the CPU when time is measured.
        no_latency: Do not measure time.
        data_dir: Directory in which the data are looked for first.
    """

    max_drop: float = 1.0
    confidence: float = 95.0
    risk: Literal["drop", "agreement"] = "drop"
    engine: Literal["eager", "onnxruntime", "openvino"] = "eager"
    precision: Literal["fp32", "bf16"] = "fp32"
    budget_macs: str = ""
    calibration: str | None = None
    seed: Seed = 0
    threads: Whole = 1
    no_latency: Flag = False
    data_dir: Path | None = None

    def check(self) -> None:
        """Refuse numbers that are out of range."""
        for option, value in (("max-drop", self.max_drop), ("confidence", self.confidence)):
            if not 0 < value < 100:
                raise UsageError(f"--{option} {value:g}: above 0 and below 100 percent")
        if self.precision != "fp32" and self.engine != "eager":
            raise UsageError(f"--precision {self.precision}: early exit by {self.engine} has fp32; eager has bf16")
        if not 1 <= self.threads <= (os.cpu_count() or 1):
            raise UsageError(f"--threads {self.threads}: 1 or more, here {os.cpu_count() or 1} at most")
        if self.calibration is not None:
            check_own_images(self.calibration, self.data_dir)


GUARANTEE = GuaranteeOptions()


def exits(
    run: str, *, guarantee: GuaranteeOptions = GUARANTEE, place: PlaceOptions = PLACE, output: Output = OUTPUT
) -> None:
    """Let images leave a finished run early, with a guarantee, and measure what that saves.

    Temperatures and thresholds are chosen on validation images; calibration images, which saw nothing else, certify the
    most eager of them whose risk is at most --max-drop; test images are measured at the end. The run gets a file
    early_exit.json.

    Args:
        run: A run's directory, or its id (or its beginning) under --runs.
    """
    guarantee.check()
    budgets = tuple(numbers("budget-macs", guarantee.budget_macs)) if guarantee.budget_macs else ()
    found = find_run(run, place.runs)

    from benchmarks import Wanted, certify_run
    from compress.cli.printing import print_json, show_exits

    wanted = Wanted(
        risk=guarantee.risk,
        epsilon=guarantee.max_drop / 100,
        delta=round(1 - guarantee.confidence / 100, 12),
        engine=guarantee.engine,
        precision=guarantee.precision,
        budgets=budgets,
        calibration=guarantee.calibration,
        seed=guarantee.seed,
        threads=guarantee.threads,
        latency=not guarantee.no_latency,
        device=place.device,
    )
    document = certify_run(found, wanted, data_dir=guarantee.data_dir)
    print_json(document) if output.json else show_exits(document)
