"""The model's files in a bundle, by format: an ONNX graph, OpenVINO's IR, or a program of torch.export."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from compress.export.form import FILES, Form
from compress.export.onnx_graph import BATCH, LEAST_IMAGES, LOGITS, describe, quantise, refusing, write_graph
from compress.export.served_network import ServedNetwork
from compress.export.subject import Subject
from compress.export.unexportable import exportable


def write_model(subject: Subject, folder: Path) -> None:
    """Write the files of the model into a folder.

    Raises:
        UsageError: the network cannot be exported or quantised; the message names the module.
    """
    form, run = subject.form, subject.run
    module = ServedNetwork(
        subject.network,
        run.normalisation,
        bytes=form.input == "uint8",
        probabilities=form.output == "probabilities",
    )
    example = subject.taken(torch.zeros(LEAST_IMAGES, *run.spec.input_shape, dtype=torch.uint8))
    if form.format == "pt2":
        path = folder / FILES["pt2"][0]
        with (
            exportable(run.record.arch, module, example, torch.export.export),
            warnings.catch_warnings(action="ignore"),
        ):
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim(BATCH)},))
            torch.export.save(program, path, extra_files=metadata(subject))
        return
    graph = folder / FILES["onnx"][0]
    with exportable(run.record.arch, module, example, torch.onnx.export):
        write_graph(module, example, graph, outputs=(output_name(form),))
    if form.precision == "int8":
        exported = graph.rename(folder / "fp32.onnx")
        with refusing(f"{run.record.arch}: ONNX Runtime cannot quantise this network"):
            quantise(exported, graph, subject.taken(subject.images))
        exported.unlink()
    describe(graph, metadata(subject))
    if form.format == "openvino":
        with refusing(f"{run.record.arch}: OpenVINO cannot read the graph of this network"):
            write_ir(graph, folder / FILES["openvino"][0], metadata(subject))
        graph.unlink()


def output_name(form: Form) -> str:
    """The name of a graph's output."""
    return "probabilities" if form.output == "probabilities" else LOGITS


def metadata(subject: Subject) -> dict[str, str]:
    """What is written into the model's own file, JSON by name."""
    described: dict[str, Any] = {
        "labels": subject.labels,
        "preprocess": subject.preprocess,
        "form": {"precision": subject.form.precision, "input": subject.form.input, "output": subject.form.output},
        "source": subject.source,
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in described.items()}


def write_ir(graph: Path, path: Path, described: dict[str, str]) -> None:
    """Convert an ONNX graph to OpenVINO's IR in fp32, with metadata under `model_info`."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports to its makers
    import openvino

    model = openvino.Core().read_model(graph)
    for name, value in described.items():
        model.set_rt_info(value, ["model_info", name])
    openvino.save_model(model, path, compress_to_fp16=False)
