"""A bundle answers as the run that it was exported from, is refused where it was changed, and takes no torch."""

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress import UsageError, predictor
from compress.export import bundle as bundle_files
from compress.export import export_bundle, read_bundle
from tests.prediction.conftest import Trained, halving

Train = Callable[..., Trained]


Export = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(trained: Train, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Export the run on photos, once in every form."""

    @functools.cache
    def export(**form: Any) -> Path:
        given, place = trained(), tmp_path_factory.mktemp("bundles") / "bundle"
        return export_bundle(given.run, out=place, runs=given.run.path.parent, **form).path

    return export


@pytest.fixture
def bundle(exported: Export, tmp_path: Path) -> Path:
    """A copy of a bundle, to change."""
    return shutil.copytree(exported(format="onnx"), tmp_path / "bundle")


def rewrite(bundle: Path, **changes: object) -> None:
    """Change a bundle's manifest, and let it fit its files."""
    manifest = json.loads((bundle / "bundle.json").read_text()) | changes
    files = [path.name for path in bundle.iterdir() if path.name != "bundle.json"]
    manifest["files"] = {name: bundle_files.digest_of(bundle / name) for name in files}
    (bundle / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "form",
    [{"format": "onnx"}, {"format": "openvino", "input": "float", "output": "logits"}],
    ids=lambda form: form["format"],
)
def test_a_bundle_answers_as_its_run(trained: Train, exported: Export, form: dict[str, str]) -> None:
    given = trained()
    ours = list(predictor(given.run).predict(given.test))
    theirs = list(predictor(exported(**form), batch_size=4, workers=2).predict(given.test))
    assert [dataclasses.replace(each, probability=0) for each in theirs] == [
        dataclasses.replace(each, probability=0) for each in ours
    ]
    assert [each.probability for each in theirs] == pytest.approx([each.probability for each in ours], abs=1e-5)


def test_a_cascade_leaves_as_the_run_does_and_says_that_nothing_is_guaranteed(
    trained: Train, exported: Export, caplog: pytest.LogCaptureFixture
) -> None:
    given = trained()
    policy = halving(given)
    cascade = exported(cascade=True, policy=policy)
    ours = list(predictor(given.run, policy=policy).predict(given.test))
    theirs = list(predictor(cascade, batch_size=5, workers=2).predict(given.test))
    assert [(each.label, each.exit) for each in theirs] == [(each.label, each.exit) for each in ours]
    assert {each.exit for each in theirs} == {1, 2}
    assert [each.probability for each in theirs] == pytest.approx([each.probability for each in ours], abs=1e-5)
    assert caplog.text.count("not certified") == 1


def test_that_nothing_is_guaranteed_is_said_once_however_many_threads(
    trained: Train, exported: Export, caplog: pytest.LogCaptureFixture
) -> None:
    predicts = predictor(exported(cascade=True, policy=halving(trained())))
    for _ in range(4):
        predicts.model.begin()
    assert caplog.text.count("not certified") == 1


def test_a_changed_bundle_is_refused(bundle: Path) -> None:
    (bundle / "labels.json").write_text(json.dumps(["light", "dark"]))
    with pytest.raises(UsageError, match=r"labels\.json is not the file that was exported"):
        predictor(bundle)


def test_labels_that_are_not_as_many_as_the_outputs_are_refused(bundle: Path) -> None:
    (bundle / "labels.json").write_text(json.dumps(["dark", "light", "grey"]))
    rewrite(bundle)
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
