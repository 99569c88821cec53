"""The model card: what a bundle's model is, how good, how large and how fast, how it was made, and its limits."""

from __future__ import annotations

from typing import Any

from compress.documents import read_kept
from compress.ensemble_exit import ENSEMBLE
from compress.export.form import FILES
from compress.export.stated_latency import Latency
from compress.export.subject import RANDOM, Subject
from compress.runs import BENCH

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "torch"}
ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "eager"}  # whose latencies are the model's


def model_card(subject: Subject, manifest: dict[str, Any]) -> str:
    """The card as Markdown."""
    title = f"# {subject.run.id}, {_exit(subject)}"
    parts = (
        ("Use", _use(subject)),
        ("Quality", _quality(subject, manifest)),
        *([("Early exit", _early_exit(subject, manifest))] if subject.form.cascade else []),
        ("Cost", _cost(subject, manifest)),
        ("Making", _making(subject)),
        ("Limits", _limits(subject, manifest)),
    )
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in parts)]) + "\n"


def _exit(subject: Subject) -> str:
    exits = len(subject.run.exits)
    if subject.form.cascade:
        return f"all {exits} exits"
    if subject.exit == ENSEMBLE:
        return f"ensemble of exits {', '.join(map(str, subject.row['exits']))}"
    return f"exit {subject.exit} of {exits}"


def _use(subject: Subject) -> str:
    form, (channels, height, width) = subject.form, subject.run.spec.input_shape
    pixels = "0 to 255, uint8" if form.input == "uint8" else "0 to 1, fp32"
    record = subject.run.record
    files = f"`{'`, `'.join(FILES[form.format])}`"
    if form.cascade:
        files = f"a graph a stage, {len(subject.run.exits)} of them: `early_exit.py` runs them until an image leaves"
    return (
        f"An image classifier, {record.arch}, for the {len(subject.labels)} classes of {subject.data_name} "
        f"(`labels.json`), in {form.format} {form.precision} ({files}).\n\n"
        f"    pip install {RUNTIMES[form.format]} numpy pillow\n"
        "    python predict.py photo.jpg folder/\n\n"
        f"The model takes pixels ({pixels}) of shape (N, {channels}, {height}, {width}), any N, normalises them "
        f"itself and returns {form.output} (N, {len(subject.labels)}). `preprocess.json` says how a file becomes "
        "pixels; `image_reader.py` does it."
    )


def _quality(subject: Subject, manifest: dict[str, Any]) -> str:
    accuracy, parity = manifest["accuracy"], manifest["parity"]
    low, high = accuracy["interval"]
    lines = [
        f"- Accuracy on {accuracy['images']:,} test images: {accuracy['test']:.2%} (Wilson's 95% interval {low:.2%} to "
        f"{high:.2%}), measured with {accuracy['measured_with']}.",
        f"- On {parity['images']} {_kind(parity['part'])} the exported model's logits deviate by "
        f"{parity['deviation']:.1e} from PyTorch's (root mean square, relative; allowed: {parity['tolerance']:g}), and "
        f"{parity['same_class']:.1%} get the same class.",
    ]
    if calibration := manifest["calibration"]:
        lines.append(
            f"- int8 was calibrated on {calibration['images']} {calibration['part']} images, with weights of "
            f"{calibration['weight_bits']} bits."
        )
    return "\n".join(lines)


def _early_exit(subject: Subject, manifest: dict[str, Any]) -> str:
    found = manifest["early_exit"]
    shares = ", ".join(f"{share:.1%}" for share in found["shares"])
    certified = found["certificate"] or "none"
    lines = [
        "- The accuracy above is that of early exit by `policy.json`, from the logits that the run's record has.",
        f"- Test images that leave at each exit, shallow to deep: {shares}.",
        f"- {found['mean_macs']:,.0f} MACs an image on average; {found['macs'][-1]:,} for one that leaves at the last.",
        f"- Certificate: {certified}.",
    ]
    return "\n".join([*lines, *([f"- For {found['engine']}: {found['notice']}."] if found["notice"] else [])])


def _kind(part: str) -> str:
    return "images of random pixels (no held-out ones were here)" if part == RANDOM else f"{part} images"


def _cost(subject: Subject, manifest: dict[str, Any]) -> str:
    cost = manifest["cost"]
    when = " that leaves at the last exit" if subject.form.cascade else ""
    lines = [f"- {cost['macs']:,} MACs an image{when}, {cost['params']:,} parameters, {cost['bytes']:,} bytes."]
    return "\n".join([*lines, *(f"- {latency}" for latency in (*subject.latencies, *_benched(subject)))])


def _benched(subject: Subject) -> list[Latency]:
    """What `compress bench` measured of this exit with the runtime and precision; cascades it does not measure."""
    form = subject.form
    kept = (
        None if form.cascade else read_kept(subject.run.path / BENCH, dict[str, Any], "compress bench measures again")
    )
    return [
        Latency(
            seconds=row["seconds"][1],
            batch_size=row["batch_size"],
            engine=measured["engine"],
            precision=measured["precision"],
            threads=measured["threads"],
            hardware=measured["environment"]["gpu"] or measured["environment"]["cpu"],
            rounds=measured["rounds"],
        )
        for measured in (kept[1].get("measurements", []) if kept else [])
        if (measured["engine"], measured["precision"]) == (ENGINES[form.format], form.precision)
        for row in measured["rows"]
        if row["exit"] == subject.exit and "seconds" in row
    ]


def _making(subject: Subject) -> str:
    record, data = subject.run.record, subject.run.record.data
    split = data["split"]
    lines = [
        f"- Command: `{record.command.replace(data['name'], subject.data_name)}`",
        f"- Method {record.method}, recipe {record.config['recipe']['name']}, seed {record.seed}"
        + (f", from run {record.parent}." if record.parent else "."),
        f"- Data: {subject.data_name} ({data['copy']}), {split['train']:,} training images, {split['validation']:,} "
        f"validation, {split['calibration']:,} calibration, {split['test']:,} test; SHA-256 {data['digest']}.",
        f"- Weights: SHA-256 {subject.source['weights']} (of all exits).",
    ]
    if subject.exit == ENSEMBLE:
        weights = ", ".join(f"{weight:g}" for weight in subject.row["weights"])
        lines.append(
            f"- It answers by the mean of its exits' logits, by weights {weights}, fitted on validation images."
        )
    return "\n".join(lines)


def _calibrated(early_exit: dict[str, Any] | None) -> str:
    """How far probabilities are chances of being right."""
    temperatures = early_exit["temperatures"] if early_exit else [1]
    if {*temperatures} == {1}:
        return (
            "Probabilities are the softmax of the logits, not calibrated: do not read them as chances of being right."
        )
    return (
        "Probabilities are the softmax of an exit's logits divided by its temperature in `policy.json` "
        f"({', '.join(f'{temperature:.3g}' for temperature in temperatures)}). How near that brings them to chances of "
        "being right was not measured."
    )


def _limits(subject: Subject, manifest: dict[str, Any]) -> str:
    lines = [
        "- Every image gets one of the classes, also one that shows none of them.",
        "- The accuracy is that on images like those of the training; on others it is unknown.",
        f"- {_calibrated(manifest.get('early_exit'))}",
    ]
    if not subject.preprocess.get("resize"):
        _, height, width = subject.run.spec.input_shape
        lines.append(f"- Images must have exactly {width}x{height} pixels.")
    if manifest["parity"]["part"] == RANDOM:
        lines.append("- The exported model was compared with PyTorch on random pixels alone, not on real images.")
    return "\n".join(lines)
