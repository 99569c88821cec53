"""`compress export`: one exit of a finished run as a directory that runs without this package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from compress.cli.options import OUTPUT, Output, options, panel
from compress.cli.runs_option import Runs
from compress.console import console
from compress.data.catalogue import check_own_images
from compress.errors import UsageError
from compress.export.form import Form, check_place
from compress.runs import Run, run_and_exit

if TYPE_CHECKING:
    from compress.inference import Certificate, Policy


@options("Bundle")
@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """The form of a bundle.

    Attributes:
        format: onnx (for ONNX Runtime), openvino, or pt2 (torch.export's program).
        precision: fp32, or int8 (onnx and openvino; calibrated on held-out images, its accuracy measured).
        input: What the model takes: pixels as uint8, or as float from 0 to 1.
        output: What the model returns: probabilities or logits.
        cascade: One graph a stage and a runner, so that images leave early without PyTorch; all exits of the run.
        calibration: folder:PATH, any images that no training had: int8 is calibrated on them in place of those that the
            run held out.
    """

    format: Literal["onnx", "openvino", "pt2"] = "onnx"
    precision: Literal["fp32", "int8"] = "fp32"
    input: Literal["uint8", "float"] = "uint8"
    output: Literal["probabilities", "logits"] = "probabilities"
    cascade: bool = False
    calibration: str | None = None

    def form(self, data_dir: Path | None) -> Form:
        """Return the form, whose packages are installed."""
        if self.calibration is not None:
            check_own_images(self.calibration, data_dir)
        form = Form(**vars(self))
        form.check_installed()
        return form


FORM = FormOptions()


def export(
    run: str,
    *,
    out: Path | None = None,
    form: FormOptions = FORM,
    policy: Path | None = None,
    data_dir: Annotated[Path | None, Parameter(group=panel("Data"))] = None,
    runs: Annotated[Runs, Parameter(group=panel("Runs"))] = Path("runs"),
    output: Output = OUTPUT,
) -> None:
    """Export one exit of a finished run as a bundle: a directory with a model that runs without PyTorch.

    The bundle holds the model, normalisation included; its labels and preprocessing; a model card (README.md); a
    manifest with digests (bundle.json); and predict.py, which labels image files and needs only the runtime, numpy and
    Pillow. Before it is there, the model has given the logits and classes of PyTorch on held-out images.

    Args:
        run: RUN or RUN:EXIT (a number, or ensemble), the run by its directory or id (or its beginning); without an
            exit, its last.
        out: Directory of the bundle, new or empty.
        policy: For --cascade, a JSON file with temperatures, thresholds and weights; otherwise the newest policy that
            `compress exits` certified for the run, one for the bundle's engine first.
        data_dir: Directory in which the held-out images are looked for first.
        runs: Directory of the run directories; or a URL of an object store: s3://BUCKET/PATH, gs://BUCKET/PATH.
    """
    if out is None:
        raise UsageError("export: --out names the directory of the bundle")
    asked = form.form(data_dir)
    check_place(out)
    if policy is not None and not asked.cascade:
        raise UsageError(f"--policy {policy}: it is for --cascade")
    found, exit = run_and_exit(run, runs)

    from compress.cli.printing import print_json
    from compress.export import export_bundle

    chosen, certificate = _policy_of(found, policy, asked) if asked.cascade else (None, None)
    bundle = export_bundle(
        found, exit, out=out, policy=chosen, certificate=certificate, data_dir=data_dir, **vars(asked)
    )
    if output.json:
        return print_json({"path": str(bundle.path), "manifest": bundle.manifest})
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size:>14,} bytes  {file}")
    low, high = bundle.manifest["accuracy"]["interval"]
    print(f"test accuracy: {bundle.manifest['accuracy']['test']:.2%} (95% interval {low:.2%} to {high:.2%})")
    print(f"try it: python {out / 'predict.py'} photo.jpg")
    if asked.cascade and (notice := bundle.manifest["early_exit"]["notice"]):
        console.print(notice)


def _policy_of(run: Run, file: Path | None, form: Form) -> tuple[Policy, Certificate | None]:
    """Return the user's policy, or the newest certified one of the run, one for the bundle's engine first."""
    from benchmarks.certifying.exits_file import read_policies
    from compress.documents import parse_json, read_file
    from compress.export.cascade_bundle import ENGINES
    from compress.inference import Certificate, Policy

    if file is not None:
        try:
            data = parse_json(read_file(file))
            certificate = data.get("certificate") if isinstance(data, dict) else None
            return Policy.from_json(data), certificate and Certificate.from_json(certificate)
        except FileNotFoundError as error:
            raise UsageError(f"--policy {file}: there is no such file") from error
        except UsageError as error:
            raise UsageError(f"--policy {file}: {error}") from error
    certified = [each for each in read_policies(run) if each.certificate is not None]
    if not certified:
        raise UsageError(
            f"run {run.id}: no certified policy: run compress exits {run.id} (with a larger --max-drop if nothing was "
            "certified), or name a file: --policy"
        )
    found = sorted(certified, key=lambda each: each.engine == ENGINES[form.format])[-1]  # stable: the newest is last
    return found.policy, found.certificate
