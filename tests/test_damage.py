"""Damaged files of a run are refused or skipped with one line that names the field."""

import copy
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import Comparison
from benchmarks.certifying.exits_file import read_policies
from benchmarks.measuring.bench_file import read_measurements
from benchmarks.measuring.costs_file import read_costs
from benchmarks.probing.probe_file import read_probe
from benchmarks.report.comparison import write_records
from benchmarks.results.epochs import read_epochs
from compress import Place
from compress.data import Dataset
from compress.documents import DEEPEST, LARGEST, parse_json, read_file
from compress.errors import UsageError
from compress.recipes import Recipe
from compress.records import digest_of, parse_record
from compress.runs import Run, finished_runs, read_run
from compress.training import train

Keys = tuple[str | int, ...]
RUNS = Path(__file__).parent / "benchmarks" / "comparison" / "runs"
PRUNED = next(path for path in RUNS.iterdir() if "-l1-" in path.name)
DOCUMENT: dict[str, Any] = json.loads((PRUNED / "run.json").read_text())
GONE = object()
WRONG: tuple[object, ...] = (None, "text", 2.5, True, [], {}, [[]], math.nan, math.inf, 10**30)
# What may be missing, since earlier versions did not write it: it is missing in the report, too.
OPTIONAL = {
    *(("spec", *keys) for keys in (("resized",), ("stem", "size"), ("exits", 0, "width"))),
    *(("spec", "blocks", 0, key) for key in ("stride", "projection", "opens_stage")),
    *(("results", key) for key in ("val_accuracy_before", "val_accuracy_pruned")),
    *(("results", "achieved", key) for key in ("ratio", "macs", "params")),
    *(("environment", "versions", key) for key in DOCUMENT["environment"]["versions"]),
    ("parent",),
    ("failure",),
}
NULLABLE = {
    "total_training_macs",
    "failure",
    "gpu",
    "commit",
    "cores",
    "val_accuracy_before",
    "val_accuracy_pruned",
    "parent",
    "choosing_seconds",
}


def places(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """The keys to everything in a document, of a list to its first item; a reference's configuration is one like it."""
    if keys:
        yield keys
    if keys[-1:] == ("reference",):
        return
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*keys, key))


def at(document: Any, keys: Keys) -> Any:
    for key in keys:
        document = document[key]
    return document


def changed(keys: Keys, value: object) -> bytes:
    """The record with another value there, or none."""
    document = copy.deepcopy(DOCUMENT)
    if value is GONE:
        del at(document, keys[:-1])[keys[-1]]
    else:
        at(document, keys[:-1])[keys[-1]] = value
    return json.dumps(document).encode()


def fits(keys: Keys, value: object) -> bool:
    """Whether a wrong value is one that the field may have, as far as its type goes."""
    old = at(DOCUMENT, keys)
    if type(value) is type(old) or (isinstance(old, float) and value == 2.5):
        return value == old or not (isinstance(value, float) and not math.isfinite(value))
    numbers = keys[-1] in ("macs", "params", "speedup") and keys[:2] != ("results", "exits")  # measured ones are floats
    return (value is None and keys[-1] in NULLABLE) or (keys[-1] == "gpu" and value == "text") or (
        keys[-1] == "failure" and value == "text"
    ) or (numbers and value == 2.5) or (keys[-1] == "resized" and value == {})  # fmt: skip


@pytest.mark.parametrize("keys", list(places(DOCUMENT)), ids=lambda keys: ".".join(map(str, keys)))
def test_a_field_of_another_type_is_refused_and_named(keys: Keys) -> None:
    for value in WRONG:
        if not fits(keys, value):
            with pytest.raises(UsageError) as refused:
                parse_record(changed(keys, value), PRUNED.name)
            named = [key for key in keys if isinstance(key, str)]
            assert any(key in str(refused.value) for key in (*named, "exits")), refused.value
            assert len(str(refused.value)) < 500


@pytest.mark.parametrize("keys", list(places(DOCUMENT)), ids=lambda keys: ".".join(map(str, keys)))
def test_a_field_that_is_missing_is_refused_or_known_to_be_optional(keys: Keys) -> None:
    if isinstance(keys[-1], int) or keys in OPTIONAL:
        return
    with pytest.raises(UsageError):
        parse_record(changed(keys, GONE), PRUNED.name)


@pytest.mark.parametrize(
    "keys", [("spec", "input_shape", 1), ("spec", "classes"), ("spec", "blocks", 0, "width"), ("spec", "stem", "out")]
)
def test_a_network_that_no_machine_holds_is_refused_before_it_is_built(keys: Keys) -> None:
    with pytest.raises(UsageError, match=r"too large|classes|shape"):
        parse_record(changed(keys, 10**9), PRUNED.name)


def test_what_a_later_version_adds_is_kept() -> None:
    document = copy.deepcopy(DOCUMENT)
    for keys in ((), ("data",), ("results",), ("results", "exits", 0), ("environment",), ("cost",)):
        at(document, keys)["invented"] = {"later": [1, None]}
    document["config"]["invented"] = "x"
    name = PRUNED.name[:-8] + digest_of(document["config"])
    record = parse_record(json.dumps(document).encode(), name)
    assert record.results["exits"][0]["invented"] == record.environment["invented"] == {"later": [1, None]}


def test_a_configuration_that_is_not_its_names_is_refused() -> None:
    recipe = DOCUMENT["config"]["recipe"] | {"epochs": 7}
    content = changed(("config", "recipe"), recipe)
    with pytest.raises(UsageError, match=r"config: its digest is .* and the run's name ends in"):
        parse_record(content, PRUNED.name)
    assert parse_record(content, "a copy").config["recipe"] == recipe


def make_endless(path: Path) -> None:
    """A file that says it has 20 GB, and takes no room."""
    path.touch()
    os.truncate(path, 20 * 2**30)


TEXT = json.dumps(DOCUMENT)
DAMAGES: dict[str, bytes | Callable[[Path], object]] = {
    "empty": b"",
    "cut off": TEXT[:-100].encode(),
    "nested": b"[" * 100_000,
    "nested in a field": TEXT.replace('"status"', f'"deep": {"[" * 500}{"]" * 500}, "status"', 1).encode(),
    "a key twice": TEXT.replace('"status"', '"status": "failed", "status"', 1).encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "Latin-1": TEXT.replace("resnet14", "r\u00e9snet14").encode("latin-1").replace(b"\\u00e9", b"\xe9"),
    "bytes": bytes(range(256)),
    "a list": f"[{TEXT}]".encode(),
    "a number of 5000 digits": TEXT.replace('"seed": 0', f'"seed": {"1" * 5000}').encode(),
    "a directory": Path.mkdir,
    "20 GB": make_endless,
}


def damage(path: Path, how: bytes | Callable[[Path], object]) -> None:
    """Put the damage in the place of the file."""
    path.unlink(missing_ok=True)
    path.write_bytes(how) if isinstance(how, bytes) else how(path)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A run's directory, which the test may spoil."""
    return Path(shutil.copytree(PRUNED, tmp_path / "runs" / PRUNED.name))


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_refused_by_its_name_and_skipped_in_a_list(
    how: bytes | Callable[[Path], object], copied: Path
) -> None:
    damage(copied / "run.json", how)
    with pytest.raises(UsageError, match=r"run\.json is corrupt") as refused:
        read_run(copied)
    assert "\n" not in str(refused.value)
    assert finished_runs(copied.parent) == ([], [str(refused.value)])


COMMANDS = {
    "bench": ("bench", "{run}"),
    "prune": ("prune", "--from", "{run}", "--speedup", "2"),
    "probe": ("probe", "{run}"),
    "report": ("report", "{runs}"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["nested", "20 GB", "a directory"])
def test_commands_refuse_a_damaged_record_in_one_line(
    command: str, how: str, copied: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied.parents[1])
    damage(copied / "run.json", DAMAGES[how])
    words = [word.format(run=copied.name, runs="runs") for word in COMMANDS[command]]
    place = [] if command == "report" else ["--runs", "runs"]
    assert ("no finished runs" if command == "report" else copied.name) in refused(*words, *place)


def test_limits_of_documents(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(UsageError, match="5 bytes, where 4 are the most"):
        read_file(tmp_path / "file", 4)
    assert parse_json(f"{'[' * DEEPEST}{']' * DEEPEST}".encode())
    with pytest.raises(UsageError, match="nested deeper"):
        parse_json(f"{'[' * (DEEPEST + 2)}{']' * (DEEPEST + 2)}".encode())
    assert 100 * max(path.stat().st_size for path in RUNS.glob("*/*.json")) < LARGEST


def lines(text: str) -> str:
    """Lines of `metrics.jsonl`, the first of them spoilt."""
    first = json.loads((PRUNED / "metrics.jsonl").read_text().splitlines()[0])
    return json.dumps(first | json.loads(text))


# Of every file what is wrong with it, and what is said of it.
FILES: list[tuple[str, str | bytes, str]] = [
    ("metrics.jsonl", b"\xff\xfe", "metrics.jsonl is corrupt"),
    ("metrics.jsonl", "", "not a line for each of the run's 1 epochs"),
    ("metrics.jsonl", lines('{"epoch": 2}'), "not a line for each of the run's 1 epochs"),
    ("metrics.jsonl", lines('{"val_loss": ["x"]}'), "line 1.val_loss[0]: expected `float`"),
    ("metrics.jsonl", lines('{"val_loss": [NaN]}'), "val_loss[0]: nan is no number"),
    ("metrics.jsonl", lines('{"train_loss": []}'), "line 1: not of the run's 1 exit(s)"),
    ("metrics.jsonl", "[" * 100_000, "nested deeper"),
    ("bench.json", "[]", "bench.json is corrupt"),
    ("bench.json", '{"schema": 3, "measurements": []}', "schema: invalid"),
    ("bench.json", '{"schema": 2, "measurements": [{}]}', "measurements[0]: object missing required field"),
    ("costs.json", '{"devices": {"cpu": [{"bytes": "many"}]}}', "expected `int`"),
    ("costs.json", '{"devices": {"cpu": []}}', "is not of the run's 1 exit(s)"),
    ("costs.json", "{", "costs.json is corrupt"),
    ("early_exit.json", '{"schema": 2, "policies": []}', "schema: invalid"),
    ("early_exit.json", '{"schema": 1, "policies": [{}]}', "policies[0]: object missing required field"),
    ("probe.json", '{"schema_version": 1, "blocks": 5}', "probe.json is corrupt"),
    ("probe.json", '{"schema_version": 2}', "schema_version"),
]


@pytest.mark.parametrize(("file", "content", "said"), FILES, ids=range(len(FILES)))
def test_a_damaged_measurement_is_said_and_the_rest_is_read(
    file: str, content: str | bytes, said: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read: dict[str, Callable[[Run], object]] = {
        "metrics.jsonl": lambda run: read_epochs([run]).to_dict("records"),
        "bench.json": read_measurements,
        "costs.json": read_costs,
        "early_exit.json": read_policies,
        "probe.json": read_probe,
    }
    damage(copied / file, content if isinstance(content, bytes) else content.encode())
    assert read[file](read_run(copied)) in ([], [{}], None)
    [line] = {line for line in capsys.readouterr().err.splitlines() if line}
    assert line.startswith("skipped: ")
    assert str(copied / file) in line
    assert said in line


@pytest.mark.parametrize(
    "file", ["metrics.jsonl", "bench.json", "costs.json", "probe.json", "early_exit.json", "correctness.json"]
)
@pytest.mark.parametrize("how", ["a directory", "20 GB"])
def test_a_file_that_is_none_or_endless_is_said_and_not_copied(
    how: str, file: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_run(copied)
    damage(copied / file, DAMAGES[how])
    [kept] = write_records(Comparison(runs=[run]), copied.parents[1] / "report").runs
    assert kept.record == run.record
    if file == "correctness.json":
        assert "corrupt" in (kept.path / file).read_text()
    else:
        assert f"skipped: {copied / file}: " in capsys.readouterr().err
        assert not (kept.path / file).exists()


def test_training_again_refuses_a_damaged_record(tiny: Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
    path = run.path / "run.json"
    path.write_text(path.read_text().replace('"test_accuracy": 0', '"test_accuracy": 7'))
    with pytest.raises(UsageError, match=r"run\.json is corrupt \(results\.exits\[0\]\.test_accuracy: expected"):
        train("resnet8", tiny, recipe=brief, place=Place(runs=tmp_path))
