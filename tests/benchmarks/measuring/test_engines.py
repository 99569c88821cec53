"""Engines, with their real packages: the same logits as eager, in every precision that they have."""

import dataclasses
import gc
import shutil
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from benchmarks.measuring.bench_file import read_measurements
from benchmarks.measuring.candidates import candidates
from benchmarks.measuring.engines import Source, engine_named, engines_here, reduced_range
from benchmarks.measuring.engines.pytorch import CudaGraphs
from benchmarks.measuring.latency import Session
from compress.data import normalise
from compress.errors import UsageError
from compress.export.agreement import check_logits
from compress.export.held_out import HeldOut, open_held_out
from compress.export.served_network import LastExit
from compress.machine import installed
from compress.networks import Network, create, cut
from compress.runs import Run, read_run

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RUNTIMES = [(name, precision) for name in ("onnxruntime", "openvino") for precision in ("fp32", "int8")]


@pytest.fixture(scope="module")
def trained(reopened: list[Run], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A network with two exits, in a directory of its own."""
    run = reopened[2]
    return [read_run(Path(shutil.copytree(run.path, tmp_path_factory.mktemp("runs") / run.id)))]


@pytest.fixture(scope="module")
def held_out(trained: list[Run]) -> HeldOut:
    return open_held_out(trained)


@pytest.fixture(scope="module")
def session(trained: list[Run], held_out: HeldOut, tmp_path_factory: pytest.TempPathFactory) -> Session:
    found = candidates(trained, tmp_path_factory.mktemp("onnx"), held_out)
    settings = {"batch_sizes": (3,), "device": CPU, "threads": 1, "rounds": 2}
    return Session(candidates=found, held_out=held_out, **settings)  # type: ignore[arg-type]


def test_runtimes_agree_with_eager_and_are_recorded_beside_one_another(session: Session, trained: list[Run]) -> None:
    rows = [row for name, precision in RUNTIMES for row in session.measure(engine_named(name), precision)]
    assert len(rows) == len(RUNTIMES) * 2  # exits
    assert all(row["deviation"] < 1e-5 for row in rows if row["precision"] == "fp32")
    assert all(1e-4 < row["deviation"] < 0.5 for row in rows if row["precision"] == "int8")
    assert all(("test_accuracy" in row) == (row["precision"] == "int8") for row in rows)
    for run in trained:
        recorded = read_measurements(run)
        int8_last = sorted(RUNTIMES, key=lambda pair: pair[1] == "int8")
        assert [(each.engine, each.precision) for each in recorded] == int8_last
        assert [len(each.rows) for each in recorded] == [len(run.exits)] * len(RUNTIMES)
        assert all(each.environment["versions"][each.engine] for each in recorded)
        assert recorded[2].calibration == {
            "part": "calibration",
            "images": 40,
            "weight_bits": 7 if reduced_range() else 8,
        }
    assert sys.modules.get("openvino_telemetry") is None  # it would report to its makers

    # The accuracy of int8 is that of the same file, evaluated here image by image.
    candidate, held_out = session.candidates[1], session.held_out
    assert held_out is not None
    runtime = onnxruntime.InferenceSession(candidate.source.onnx("int8"), providers=["CPUExecutionProvider"])
    [images] = held_out.test.batches([torch.arange(len(held_out.test))])
    logits = [
        torch.from_numpy(runtime.run(None, {"images": image[None].numpy()})[0])
        for image in normalise(images, candidate.run.normalisation)
    ]
    right = torch.cat(logits).argmax(dim=1) == held_out.test.labels
    measured = [row for row in rows if (row["engine"], row["precision"]) == ("onnxruntime", "int8")]
    found = {
        row["test_accuracy"] for row in measured if (row["run"], row["exit"]) == (candidate.run.id, candidate.exit)
    }
    assert found == {float(right.double().mean())}
    sizes = {name: candidate.source.onnx(of).stat().st_size for name, of in (("bytes", "int8"), ("fp32_bytes", "fp32"))}
    assert measured[-1] | sizes == measured[-1]
    untimed = replace(session, rounds=0).measure(engine_named("onnxruntime"), "int8")
    times = {"seconds", "ratio", "ratio_interval"}
    assert untimed == [{name: value for name, value in row.items() if name not in times} for row in measured]
    assert 4 * candidate.cost.params < sizes["fp32_bytes"]
    nodes = onnx.load(candidate.source.onnx("int8")).graph.node
    assert not any(node.metadata_props for node in nodes)
    kinds = {node.op_type for node in nodes}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= kinds


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_graph_with_other_weights_is_not_timed(name: str, session: Session, tmp_path: Path) -> None:
    candidate = session.candidates[0]
    model = onnx.load(candidate.source.onnx("fp32"))
    kernel = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 1.1, kernel.name))
    onnx.save(model, tmp_path / "fp32.onnx")
    source = Source(candidate.source.network, tmp_path)
    wrong = dataclasses.replace(session, candidates=[dataclasses.replace(candidate, source=source)])
    with pytest.raises(UsageError, match=rf"{candidate.run.id} exit 1, {name} fp32: logits deviate by .* than 0\.001"):
        wrong.measure(engine_named(name), "fp32")


@pytest.mark.parametrize(("name", "precision"), [("eager", "bf16"), ("compile", "fp32")])
def test_torch_engines_agree_with_eager(name: str, precision: str) -> None:
    """Compiled, two networks at once: the second must not displace the first."""
    networks = [cut(create("resnet8", exits=3, input_shape=(1, 8, 8), classes=10), 1).eval() for _ in range(2)]
    engine, images = engine_named(name), torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    placed = engine.place(images[:2], CPU)
    prepared = engine.prepare([Source(network, Path()) for network in networks], placed, precision, 1)
    for network, infer in zip(networks, prepared, strict=True):
        with torch.inference_mode():
            expected = network(images)[-1]
        placed_infer = lambda batch, infer=infer: infer(engine.place(batch, CPU))  # noqa: E731
        check_logits(placed_infer, 2, images, expected, precision=precision, what=name)


class ReplayedOnCpu:
    """A recording that is no recording: a replay calls the function again, with the tensors that it was given."""

    def __init__(self, device: torch.device) -> None:
        assert device == CPU

    def record(self, function: Callable[[], None]) -> None:
        function()
        self.replay = function


def test_a_replay_reads_new_images_and_keeps_no_earlier_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the engine but the graph itself, which needs a GPU: see tests/cuda."""
    monkeypatch.setattr(CudaGraphs, "graph", ReplayedOnCpu)
    network = create("resnet8", exits=1, input_shape=(1, 8, 8), classes=10).eval()
    engine, images = engine_named("cudagraphs"), torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    [infer] = engine.prepare([Source(network, Path())], engine.place(images[:2], CPU), "fp32", 1)
    with torch.inference_mode():
        expected = network(images)[-1]
    first, second = infer(images[:2]), infer(images[2:])
    torch.testing.assert_close(torch.cat([first, second]), expected)


class NothingKept(ReplayedOnCpu):
    """As a graph does, it keeps neither the function nor what that uses."""

    def record(self, function: Callable[[], None]) -> None:
        function()


def test_the_network_lives_as_long_as_what_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph has the addresses of its weights: were they freed, it would compute with whatever came there next."""
    made = []

    class Watched(LastExit):
        def __init__(self, network: Network) -> None:
            super().__init__(network)
            made.append(weakref.ref(self))

    monkeypatch.setattr(CudaGraphs, "graph", NothingKept)
    monkeypatch.setattr("benchmarks.measuring.engines.pytorch.LastExit", Watched)
    network = create("resnet8", exits=1, input_shape=(1, 8, 8), classes=10).eval()
    prepared = engine_named("cudagraphs").prepare([Source(network, Path())], torch.zeros(1, 1, 8, 8), "fp32", 1)
    gc.collect()
    assert [each() is not None for each in made] == [True]
    del prepared
    gc.collect()
    assert made[0]() is None


def test_a_gpu_has_the_precisions_that_it_has_instructions_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, eager = torch.device("cuda"), engine_named("eager")
    gpus = {(5, 0): ("fp32",), (7, 5): ("fp32", "fp16"), (9, 0): ("fp32", "bf16", "fp16")}
    for capability, precisions in gpus.items():
        has_bf16 = capability >= (8, 0)
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda has=has_bf16, **options: has)
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda device, found=capability: found)
        assert eager.precisions(cuda) == precisions
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **options: False)
    with pytest.raises(UsageError, match="engine cudagraphs has no bf16 on this cuda; it has fp32, fp16"):
        engine_named("cudagraphs").check("bf16", cuda)


def test_int8_needs_images_that_were_held_out(trained: list[Run], held_out: HeldOut) -> None:
    assert (held_out.name, len(held_out.calibration), len(held_out.test)) == ("calibration", 40, 100)
    record = trained[0].record
    for kept, part in ((0.1, "validation"), (0.0, None)):
        recipe = record.config["recipe"] | {"calibration": 0.0, "validation": kept}
        run = Run(trained[0].path, replace(record, config=record.config | {"recipe": recipe}))
        if part:
            assert open_held_out([run]).name == part
        else:
            with pytest.raises(UsageError, match="leave none at recipe quick's shares"):
                open_held_out([run])


def test_what_is_here_is_what_the_cpu_has() -> None:
    here = {(engine.name, precision) for engine, precision in engines_here(CPU)}
    assert {("eager", "fp32"), ("compile", "fp32"), *RUNTIMES} <= here
    assert not {name for name, _ in here} & {"cudagraphs"}


def test_an_engine_runs_on_what_is_asked_for_or_else_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU."""
    monkeypatch.setattr(
        "benchmarks.measuring.engines.engine.resolve_device", lambda asked: CPU if asked == "cpu" else CUDA
    )
    eager, runtime = engine_named("eager"), engine_named("onnxruntime")
    assert [eager.device(asked) for asked in ("auto", "cuda", "cpu")] == [CUDA, CUDA, CPU]
    assert [runtime.device(asked) for asked in ("auto", "cuda", "cpu")] == [CPU, CUDA, CPU]


def test_a_package_of_another_name_has_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu is imported as onnxruntime."""

    def version(name: str) -> str:
        if name != "onnxruntime-gpu":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert installed(["onnxruntime", "openvino"]) == {"onnxruntime": "1.2.3"}
