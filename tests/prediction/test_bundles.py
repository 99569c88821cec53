"""A bundle answers as the run that it was exported from, is refused where it was changed, and takes no torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compress import UsageError, predictor
from compress.export import bundle as bundle_files
from compress.export import export_bundle, read_bundle
from tests.prediction.conftest import Trained

Train = Callable[..., Trained]


def exported(trained: Trained, out: Path, **form: str) -> Path:
    export_bundle(trained.run, out=out, runs=trained.run.path.parent, **form)
    return out


@pytest.mark.parametrize(
    "form",
    [
        {"format": "onnx", "input": "uint8", "output": "probabilities"},
        {"format": "openvino", "input": "float", "output": "logits"},
    ],
    ids=lambda form: form["format"],
)
def test_a_bundle_answers_as_its_run(trained: Train, tmp_path: Path, form: dict[str, str]) -> None:
    given = trained()
    bundle = exported(given, tmp_path / "bundle", **form)
    ours = list(predictor(given.run).predict(given.test))
    theirs = list(predictor(bundle, batch_size=4, workers=2).predict(given.test))
    assert [(each.path, each.label, each.exit) for each in theirs] == [
        (each.path, each.label, each.exit) for each in ours
    ]
    assert [each.probability for each in theirs] == pytest.approx([each.probability for each in ours], abs=1e-5)


@pytest.fixture
def bundle(trained: Train, tmp_path: Path) -> Path:
    return exported(trained(), tmp_path / "bundle", format="onnx")


def test_a_changed_bundle_is_refused(bundle: Path) -> None:
    (bundle / "labels.json").write_text(json.dumps(["light", "dark"]))
    with pytest.raises(UsageError, match=r"labels\.json is not the file that was exported"):
        predictor(bundle)


def test_labels_that_are_not_as_many_as_the_outputs_are_refused(bundle: Path) -> None:
    (bundle / "labels.json").write_text(json.dumps(["dark", "light", "grey"]))
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["files"]["labels.json"] = bundle_files.digest_of(bundle / "labels.json")
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    assert len(read_bundle(bundle).labels) == 3
    with pytest.raises(UsageError, match=r"labels\.json names 3 classes, the model answers 2"):
        predictor(bundle)


def test_an_onnx_bundle_is_served_without_torch(bundle: Path, trained: Train) -> None:
    script = (
        "import sys; from compress.__main__ import main; status = main(); "
        "assert not {'torch', 'torchvision', 'pandas'} & sys.modules.keys(); sys.exit(status)"
    )
    given = trained()
    command = [sys.executable, "-c", script, "predict", str(bundle), str(given.test)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1 + len(given.logits[0])), done.stderr
