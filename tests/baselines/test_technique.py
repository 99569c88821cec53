"""Techniques describe themselves, and options that do not go together are refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cyclopts import App, CoercionError
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import METHODS, Technique
from baselines.technique import CONTROLS, CRITERIA, DEPTH, MOST_RUNS, SPARSE
from compress.cli.prune_command import TECHNIQUE, TechniqueOptions
from compress.documents import DEEPEST
from compress.errors import UsageError

app = App()


@app.default
def parse(*, technique: TechniqueOptions = TECHNIQUE) -> Technique:
    return technique.technique()


def parsed(words: list[str]) -> Technique:
    technique = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    assert isinstance(technique, Technique)
    return technique


def test_modules_to_keep_are_a_list_however_they_are_given() -> None:
    given: Any = "stem, blocks.1"
    assert Technique(keep=given) == Technique(keep=("stem", "blocks.1", "stem"))
    asked = Technique(keep=("stem",)).to_json()
    assert asked == json.loads(json.dumps(asked))  # as a record that was read has it
    assert "keep" not in Technique().to_json()  # so that earlier runs are found again


def test_every_method_has_a_card() -> None:
    wanted = {"random", "l1", "l2", "fpgm", "lamp", "bn-scale", "taylor", "group-norm"}
    assert set(CRITERIA) == wanted
    assert set(DEPTH) == {"blocks", "depth-cut"}
    assert set(CONTROLS) == {"scratch-e", "scratch-b", "shallow", "distilled"}
    assert set(METHODS) == wanted | set(DEPTH) | set(CONTROLS)
    assert set(SPARSE) == {"bn-scale", "group-norm"}
    for card in METHODS.values():
        assert len(card) > 20
        assert "\n" not in card
    assert len(set(METHODS.values())) == len(METHODS)


def test_the_command_lists_every_card(compress: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = compress("prune", "--list-methods")
    assert status == 0
    for name, card in METHODS.items():
        assert f"{name} {card}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "l1"),
        ({"scope": "inner", "ranking": "uniform"}, "l1 inner uniform"),
        ({"method": "taylor", "steps": 3}, "taylor in 3 steps"),
        ({"method": "fpgm", "steps": 3, "gradual": True}, "fpgm gradual in 3 steps"),
        ({"method": "l2", "allocate": "sensitivity", "round_to": 8}, "l2 by sensitivity to 8"),
        ({"method": "scratch-e"}, "scratch-e of l1"),
        ({"method": "scratch-b", "shape": "blocks"}, "scratch-b of blocks"),
        ({"method": "shallow", "nearest": True}, "shallow"),
        ({"keep": ("layer1.0.conv1", "fc")}, "l1 keeping layer1.0.conv1 fc"),
    ],
)
def test_labels_say_what_is_not_the_default(options: dict[str, Any], label: str) -> None:
    assert Technique(**options).label == label


@st.composite
def techniques(draw: st.DrawFn) -> Technique:
    """Any technique whose options go together."""
    options: dict[str, Any] = {
        "method": draw(st.sampled_from(list(METHODS))),
        "scope": draw(st.sampled_from(["all", "inner"])),
        "ranking": draw(st.sampled_from(["global", "uniform"])),
        "allocate": draw(st.sampled_from([None, "sensitivity"])),
        "round_to": draw(st.sampled_from([1, 8])),
        "steps": draw(st.sampled_from([1, 3])),
        "gradual": draw(st.booleans()),
        "shape": draw(st.sampled_from(["l1", "taylor", "blocks", "depth-cut"])),
        "keep": draw(st.sampled_from([(), ("stem",), ("blocks.0.conv1", "blocks.2")])),
        "nearest": draw(st.booleans()),
    }
    for name in draw(st.permutations([name for name in options if name != "method"])):
        try:
            return Technique(**options)
        except UsageError:
            del options[name]
    return Technique(**options)


@given(technique=techniques())
@settings(max_examples=100, deadline=None)
def test_the_command_reads_the_options_back(technique: Technique) -> None:
    assert parsed(technique.options()) == technique
    assert Technique(**technique.to_json()) == technique


def test_defaults_are_not_spelt_out() -> None:
    assert Technique().options() == ["--method", "l1"]
    assert parsed([]) == Technique()
    assert parsed(["--global"]) == Technique()


@pytest.mark.parametrize(("method", "kind"), [("l1", "prune"), ("blocks", "prune"), ("shallow", "control")])
def test_controls_are_a_kind_of_their_own(method: str, kind: str) -> None:
    assert Technique(method=method).kind == kind


def test_a_shape_from_scratch_is_chosen_by_the_method_of_its_shape() -> None:
    technique = Technique(method="scratch-b", shape="l2", scope="inner", ranking="uniform", round_to=8)
    assert technique.choosing == Technique(method="l2", scope="inner", ranking="uniform", round_to=8)
    assert technique.width
    assert not Technique(method="scratch-b", shape="blocks").width
    assert not Technique(method="distilled").width
    assert Technique(method="l2").choosing == Technique(method="l2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "l11"}, "method 'l11': did you mean 'l1'"),
        ({"scope": "iner"}, "--scope iner: did you mean 'inner'"),
        ({"ranking": "local"}, "--ranking local: "),
        ({"allocate": "sensitive"}, "--allocate sensitive: did you mean 'sensitivity'"),
        ({"method": "scratch-e", "shape": "l3"}, "--shape l3: did you mean"),
        ({"method": "scratch-e", "shape": "bn-scale"}, "--shape bn-scale: "),  # needs sparse training first
        ({"method": "scratch-e", "shape": "shallow"}, "--shape shallow: "),
        ({"round_to": 0}, "--round-to 0: "),
        ({"keep": "stem,,blocks.1"}, "--keep stem,,blocks.1: names of modules"),
        ({"method": "blocks", "keep": ("stem",)}, "--keep: goes with methods that remove channels, not blocks"),
        ({"steps": 0}, "--steps 0: 1 or more"),
        ({"method": "blocks", "scope": "inner"}, "--scope: goes with methods that remove channels, not blocks"),
        ({"method": "blocks", "ranking": "uniform"}, "--uniform: goes with methods that remove channels"),
        ({"method": "depth-cut", "round_to": 8}, "--round-to: goes with methods that remove channels"),
        ({"method": "depth-cut", "allocate": "sensitivity"}, "--allocate: goes with methods"),
        ({"method": "blocks", "steps": 2, "gradual": True}, "--gradual: goes with methods"),
        ({"method": "shallow", "scope": "inner"}, "--scope: goes with methods that remove channels, not shallow"),
        ({"method": "scratch-e", "shape": "blocks", "scope": "inner"}, "--scope: goes with methods"),
        ({"method": "l1", "shape": "l2"}, "--shape l2: goes with scratch-e and scratch-b, not l1"),
        ({"method": "depth-cut", "steps": 2}, "--steps 2: depth-cut has no steps in between"),
        ({"method": "scratch-e", "steps": 2}, "--steps 2: scratch-e has no steps in between"),
        ({"method": "distilled", "steps": 2}, "--steps: goes with methods that remove channels, not distilled"),
        ({"gradual": True}, "--gradual: prunes in several steps of one fine-tuning"),
        ({"gradual": True, "steps": 2, "allocate": "sensitivity"}, "--gradual: prunes by a ranking: leave out --alloc"),
        ({"allocate": "sensitivity", "ranking": "uniform"}, "--allocate sensitivity: gives every group"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Technique(**options)
    assert str(refused.value).startswith(message)
    assert len(str(refused.value).splitlines()) == 1


def test_unknown_words_are_refused_by_the_command_too() -> None:
    with pytest.raises(CoercionError, match='"outer" for --scope'):
        parsed(["--scope", "outer"])


def test_steps_that_are_runs_of_their_own_are_fewer_than_those_of_one() -> None:
    """Each record holds those of the steps before, and no record is read that is nested much deeper."""
    assert Technique(steps=MOST_RUNS).steps < DEEPEST - 10
    with pytest.raises(UsageError, match=f"{MOST_RUNS} at most, each a run"):
        Technique(steps=MOST_RUNS + 1)
    assert Technique(steps=MOST_RUNS + 1, gradual=True).gradual
