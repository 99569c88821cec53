"""The bundle of a cascade: stages, policy and runner, checked against eager at every exit before they are kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import UsageError
from compress.export.accuracy import Accuracy
from compress.export.cascade import not_certified, write_policy, write_stage_digests, write_stages
from compress.export.early_exit_runner import Cascade
from compress.export.manifest import MANIFEST
from compress.export.model_files import metadata, write_ir
from compress.export.onnx_graph import describe, refusing
from compress.export.papers import write_papers
from compress.export.parity import Parity, agreeing, outputs
from compress.export.subject import Subject
from compress.inference import Certificate, Policy, check_fits, leaving_macs, mean_macs, simulate
from compress.runs import PREDICTIONS

ENGINES = {"onnx": "onnxruntime", "openvino": "openvino"}  # what a format is for; ONNX graphs run in OpenVINO, too


def write_cascade(subject: Subject, policy: Policy | None, certificate: Certificate | None, folder: Path) -> None:
    """Write a bundle with one graph a stage into a folder.

    Raises:
        UsageError: there is no policy, or it does not fit the network; the network is cut or has one exit; it cannot be
            exported, or does not answer as eager does.
    """
    run, form, network = subject.run, subject.form, subject.whole
    exits = len(run.exits)
    if subject.exit != exits or exits == 1:
        raise UsageError(
            f"run {run.id}: a cascade has all exits of a run that has several, not exit {subject.exit} alone"
        )
    if policy is None:
        raise UsageError(
            f"run {run.id}: a cascade needs a policy: run compress exits {run.id}, or name a file: --policy"
        )
    check_fits(policy, network)
    notice = not_certified(policy, certificate, engine=ENGINES[form.format], input=form.input)
    described = metadata(subject)
    for path in write_stages(network, run.normalisation, folder, bytes=form.input == "uint8"):
        describe(path, described)
        if form.format == "openvino":
            with refusing(f"{run.record.arch}: OpenVINO cannot read {path.stem} of this network"):
                write_ir(path, path.with_suffix(".xml"), described)
            path.unlink()
    write_policy(folder, policy, certificate, engine=ENGINES[form.format], input=form.input)
    parity = check_exits(subject, folder)
    accuracy, early_exit = answered(subject, policy)
    early_exit |= {
        "engine": ENGINES[form.format],
        "temperatures": list(policy.temperatures),
        "certificate": None if certificate is None else str(certificate),
        "notice": notice,
    }
    write_papers(subject, folder, parity, accuracy, early_exit)


def check_exits(subject: Subject, folder: Path) -> Parity:
    """Compare the stages in a folder with eager at every exit; returns the largest deviation of an exit.

    Raises:
        UsageError: logits deviate, or classes differ.
    """
    form, manifest = subject.form, folder / MANIFEST
    write_stage_digests(folder, format=form.format, input=form.input)
    runner = Cascade(folder, engine=ENGINES[form.format])
    logits = outputs(lambda images: runner.logits(images).swapaxes(0, 1), subject).unbind(dim=1)
    manifest.unlink()  # the bundle's own is written last
    found = [
        agreeing(logits[exit], expected.double(), subject, f"{subject.run.id} exit {exit + 1}, {form.format} cascade")
        for exit, expected in enumerate(subject.logits())
    ]
    same = min(parity.same_class for parity in found)
    return dataclasses.replace(max(found, key=lambda parity: parity.deviation), same_class=same)


def answered(subject: Subject, policy: Policy) -> tuple[Accuracy, dict[str, Any]]:
    """The accuracy of early exit, the share of images at every exit and their MACs, from the run's test logits.

    This is a measurement after all choices: nothing is selected on it.
    """
    with np.load(subject.run.path / PREDICTIONS) as kept:
        logits, labels = kept["test_logits"], kept["test_labels"]
    found, macs = simulate(logits, policy), leaving_macs(subject.whole)
    right = found.labels == labels
    accuracy = Accuracy(test=float(right.mean()), images=len(right), measured_with="PyTorch")
    shares = [float((found.exits == exit).mean()) for exit in range(1, policy.exits + 1)]
    return accuracy, {"shares": shares, "mean_macs": mean_macs(found.exits, macs), "macs": macs.tolist()}
