"""The spec: round trip through JSON, and one line for malformed data."""

import json
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compress import Architecture
from compress.errors import UsageError
from compress.networks import Network, Spec, spec_of
from compress.networks.blocks import BLOCKS, BlockSpec
from compress.networks.heads import HEADS, WIDENING
from compress.networks.spec import ExitSpec, StemSpec
from compress.networks.stems import STEMS


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Any valid spec: widths that change anywhere, parts of both forms mixed."""
    widths = st.integers(1, 5)
    stem = StemSpec(kind=draw(st.sampled_from(sorted(STEMS))), out=draw(widths))
    inputs, blocks = stem.out, []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(sorted(BLOCKS)))
        projection = BLOCKS[kind].has_shortcut and draw(st.booleans())
        reshapes = projection or not BLOCKS[kind].has_shortcut
        out = draw(widths) if reshapes else inputs
        block = BlockSpec(
            kind=kind,
            width=draw(widths) if BLOCKS[kind].has_width else out if kind == "pointwise" else inputs,
            out=out,
            stride=draw(st.integers(1, 3)) if reshapes else 1,
            projection=projection,
            opens_stage=draw(st.booleans()),
        )
        blocks.append(block)
        inputs = block.out
    ends = sorted(draw(st.sets(st.integers(1, len(blocks)))) | {len(blocks)})
    heads = [draw(st.sampled_from(sorted(HEADS))) for _ in ends]
    return Spec(
        arch=draw(st.text(max_size=8)),
        input_shape=(draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        classes=draw(st.integers(1, 4)),
        stem=stem,
        blocks=tuple(blocks),
        exits=tuple(
            ExitSpec(block=block, head=head, width=draw(widths) if head in WIDENING else 0)
            for block, head in zip(ends, heads, strict=True)
        ),
    )


@given(spec=specs())
def test_a_spec_survives_json_text(spec: Spec) -> None:
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.to_json() == spec.to_json()


@settings(max_examples=25, deadline=None)
@given(spec=specs())
def test_every_valid_spec_builds_a_network_that_runs(spec: Spec) -> None:
    network = Network(spec).eval()
    assert [exit.shape for exit in network(torch.zeros(2, *spec.input_shape))] == [(2, spec.classes)] * len(spec.exits)


@pytest.mark.parametrize("arch", ["resnet20", "resnet20v1", "resnet110", "resnet20nl", "mobilenetv2"])
@pytest.mark.parametrize("head", sorted(HEADS))
def test_named_networks_survive_json_text(arch: str, head: str) -> None:
    spec = spec_of(Architecture(arch, width=2, head=head), exits=3, input_shape=(1, 28, 28), classes=100)
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def example_data() -> dict[str, Any]:
    return spec_of("resnet8", exits=2).to_json()


def test_to_json_gives_data_of_its_own() -> None:
    spec = spec_of("resnet8")
    spec.to_json()["blocks"][0]["width"] = 99
    assert spec == spec_of("resnet8")


def refusal(data: Any) -> str:
    with pytest.raises(UsageError) as refused:
        Spec.from_json(data)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.mark.parametrize("key", ["arch", "input_shape", "classes", "stem", "blocks", "exits"])
def test_a_missing_key_is_refused_and_named(key: str) -> None:
    data = example_data()
    del data[key]
    assert key in refusal(data)


@pytest.mark.parametrize(("part", "key"), [("stem", "out"), ("blocks", "width"), ("blocks", "kind"), ("exits", "head")])
def test_a_missing_key_of_a_part_is_refused_and_named(part: str, key: str) -> None:
    data = example_data()
    del (data[part] if part == "stem" else data[part][0])[key]
    assert key in refusal(data)


@pytest.mark.parametrize("part", ["stem", "blocks", "exits"])
def test_an_unknown_key_of_a_part_is_refused_and_named(part: str) -> None:
    data = example_data()
    (data[part] if part == "stem" else data[part][0])["colour"] = 1
    assert "colour" in refusal(data)


def test_an_unknown_key_at_the_top_is_refused_and_named() -> None:
    assert "colour" in refusal({**example_data(), "colour": 1})


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("blocks", 0, "kind"), "bottleneck", "bottleneck"),
        (("stem", "kind"), "patches", "patches"),
        (("exits", 0, "head"), "mlp", "mlp"),
        (("exits", 0, "block"), 0, "[0, 3]"),
        (("exits", 0, "block"), 3, "[3, 3]"),
        (("exits", 1, "block"), 2, "[2, 2]"),
        (("exits", 1, "block"), 4, "[2, 4]"),
        (("exits",), [], "exits []"),
        (("blocks",), [], "exits"),
        (("classes",), 0, "classes"),
        (("classes",), 10**12, "too large to build"),
        (("input_shape", 1), 10**9, "too large to build"),
        (("classes",), "ten", "classes 'ten'"),
        (("classes",), None, "classes None"),
        (("input_shape",), [3, 32], "input_shape (3, 32)"),
        (("input_shape",), [3, 32, 0], "positive"),
        (("input_shape",), "32x32", "input_shape"),
        (("blocks", 1, "projection"), False, "block 2"),
        (("blocks", 0, "out"), 17, "block 1"),
        (("blocks", 0, "width"), 0, "positive"),
        (("blocks", 0), {"kind": "separable", "width": 8, "out": 16}, "has no width of its own"),
        (("blocks", 0), {"kind": "pointwise", "width": 8, "out": 8, "projection": True}, "no shortcut to project"),
        (("exits", 0, "width"), 3, "width 3"),
        (("exits", 0, "head"), "bn-relu-conv-gap-fc", "width 0"),
        (("stem", "out"), -16, "positive"),
        (("stem",), [], "stem: expected `object`"),
        (("blocks",), 3, "not a network spec"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(path: tuple[str | int, ...], value: Any, named: str) -> None:
    assert named in refusal(changed(example_data(), path, value))


@pytest.mark.parametrize("data", [None, [], "resnet44", 3, {}])
def test_what_is_no_object_is_refused_in_one_line(data: Any) -> None:
    refusal(data)


def changed(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    target = data
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return data


PATHS: list[tuple[str | int, ...]] = [
    ("arch",),
    ("input_shape",),
    ("input_shape", 0),
    ("input_shape", 2),
    ("classes",),
    ("stem",),
    ("stem", "kind"),
    ("stem", "out"),
    ("blocks",),
    ("blocks", 1),
    *(("blocks", 1, key) for key in ("kind", "width", "out", "stride", "projection", "opens_stage")),
    ("exits",),
    ("exits", 0),
    ("exits", 0, "block"),
    ("exits", 0, "head"),
    ("exits", 0, "width"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 40) | st.floats(-2, 40) | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=2),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON)
@example(path=("blocks", 1, "stride"), value=0)
@example(path=("classes",), value=10.5)
@example(path=("blocks", 0, "width"), value=16.0)
@example(path=("input_shape",), value="333")
@example(path=("blocks", 1, "projection"), value="no")
@example(path=("arch",), value=None)
@example(path=("arch",), value="\r")
@example(path=("stem", "kind"), value="\r")
@example(path=("exits", 0, "head"), value="\n")
def test_a_value_that_is_accepted_builds_a_network_that_runs_and_survives_json(
    path: tuple[str | int, ...], value: Any
) -> None:
    data = changed(example_data(), path, value)
    try:
        spec = Spec.from_json(data)
    except UsageError as error:
        lines = str(error).splitlines()
    else:
        lines = []
    if lines:
        assert len(lines) == 1
        return
    assert spec.to_json() == data
    assert isinstance(spec.arch, str)
    assert isinstance(spec.blocks[1].projection, bool)
    Network(spec).eval()(torch.zeros(1, *spec.input_shape))
