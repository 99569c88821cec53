"""The papers of a bundle: labels, preprocessing, the scripts that predict, the model card, and the manifest."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from compress.export.accuracy import Accuracy
from compress.export.bundle import CARD, LABELS, PREPROCESS, VERSION
from compress.export.form import FILES, PACKAGES
from compress.export.manifest import MANIFEST, digest_of
from compress.export.model_card import model_card
from compress.export.onnx_graph import reduced_range
from compress.export.parity import Parity
from compress.export.subject import Subject
from compress.machine import installed

# Scripts of this folder, by their names in a bundle: they need no other of it.
SCRIPTS = {name: name for name in ("predict.py", "image_reader.py", "model_runner.py", "manifest.py")}
RUNNER = {"early_exit.py": "early_exit_runner.py"}  # of a cascade


def write_papers(
    subject: Subject, folder: Path, parity: Parity, accuracy: Accuracy, early_exit: dict[str, Any] | None = None
) -> None:
    """Write everything but the model beside the model's files, the manifest with all their digests last.

    `early_exit` is what the manifest and the card say of a cascade.
    """
    form = subject.form
    suffixes = {Path(name).suffix for name in FILES[form.format]}
    model = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in suffixes)
    manifest: dict[str, Any] = {
        "bundle_version": VERSION,
        "kind": "cascade" if form.cascade else "model",
        **{"format": form.format, "precision": form.precision, "input": form.input, "output": form.output},
        "source": subject.source,
        "cost": subject.cost | {"bytes": model},
        "parity": parity.to_json(),
        "accuracy": accuracy.to_json(),
        **({"early_exit": early_exit} if early_exit else {}),
        "calibration": _calibration(subject) if form.precision == "int8" else None,
        "versions": installed(("torch", *PACKAGES[form.format])),
    }
    write_json(folder / LABELS, subject.labels)
    write_json(folder / PREPROCESS, subject.preprocess)
    write_scripts(folder, cascade=form.cascade)
    (folder / CARD).write_text(model_card(subject, manifest), "utf-8")
    files = {file.name: digest_of(file) for file in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, manifest | {"files": files})


def write_scripts(folder: Path, *, cascade: bool) -> None:
    """Write the scripts that predict."""
    for name, ours in (SCRIPTS | RUNNER if cascade else SCRIPTS).items():
        (folder / name).write_bytes((resources.files("compress.export") / ours).read_bytes())


def write_json(path: Path, document: Any) -> None:
    """Write a document, readable for people."""
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def _calibration(subject: Subject) -> dict[str, Any]:
    """What int8 was calibrated on, as in `bench.json`."""
    return {"part": subject.part, "images": len(subject.images), "weight_bits": 7 if reduced_range() else 8}
