"""Schemas: what fits becomes what was asked for, and what does not is named with its place."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from compress.errors import UsageError
from compress.schema import UNSET, Meta, Struct, UnsetType, fitted

Share = Annotated[float, Meta(ge=0, le=1)]


class Row(TypedDict):
    name: str
    size: NotRequired[int]


@dataclass(frozen=True)
class Inner:
    count: int

    def __post_init__(self) -> None:
        if self.count == 13:
            raise UsageError("Thirteen is refused")


class Outer(Struct):
    kind: Literal["a", "b"]
    shares: Annotated[tuple[Share, ...], Meta(min_length=1)] = (0.5,)
    inner: Inner | UnsetType | None = UNSET
    either: float | tuple[float, float] = 0.0
    rows: list[Row] | None = None
    named: dict[str, int] | None = None
    digits: Annotated[str, Meta(pattern="^[0-9]*$")] = ""
    above: Annotated[int, Meta(gt=0)] = 1


class Deeper(Outer):
    kind: Literal["a", "b"]
    more: bool


def test_what_fits_is_converted_and_unknown_fields_are_left_out() -> None:
    data: dict[str, Any] = {
        **{"kind": "a", "shares": [0, 1], "inner": {"count": 3}, "either": [1, 2], "invented": 1},
        **{"rows": [{"name": "x", "size": 2, "other": None}], "named": {"y": 1}, "digits": "42"},
    }
    made = fitted(data, Outer)
    assert (made.shares, made.inner, made.either) == ((0.0, 1.0), Inner(3), (1.0, 2.0))
    assert (made.rows, made.named) == ([{"name": "x", "size": 2}], {"y": 1})
    assert type(made.shares[0]) is float
    assert fitted({"kind": "a"}, Outer).inner is UNSET
    assert fitted({"kind": "a", "inner": None}, Outer).inner is None
    assert fitted({"kind": "b", "more": True, "named": None}, Deeper) == Deeper(kind="b", more=True)
    assert fitted(made, Outer) is made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "c"}, "kind: invalid value 'c'"),
        ({"kind": 1}, "kind: expected `str`, got `int`"),
        ({"shares": []}, "shares: expected `array` of length >= 1"),
        ({"shares": [0.5, 2]}, "shares[1]: expected `float` <= 1"),
        ({"shares": [True]}, "shares[0]: expected `float`, got `bool`"),
        ({"inner": {"count": 1.0}}, "inner.count: expected `int`, got `float`"),
        ({"inner": {}}, "inner: object missing required field `count`"),
        ({"inner": {"count": 13}}, "inner: thirteen is refused"),
        ({"either": [1]}, "either: expected `array` of length 2, got 1"),
        ({"either": "x"}, "either: expected `float | array`, got `str`"),
        ({"rows": [{}]}, "rows[0]: object missing required field `name`"),
        ({"rows": {}}, "rows: expected `array | null`, got `object`"),
        ({"named": {"y": "z"}}, "named.y: expected `int`, got `str`"),
        ({"digits": "4x"}, "digits: expected `str` matching '^[0-9]*$'"),
        ({"above": 0}, "above: expected `int` > 0"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        fitted({"kind": "a"} | changes, Outer)
    assert str(refused.value) == message


def test_a_subclass_may_ask_for_what_its_parent_has_a_default_for() -> None:
    with pytest.raises(UsageError, match="missing required field `more`"):
        fitted({"kind": "a"}, Deeper)
    with pytest.raises(UsageError, match="at: expected `int`, got `null`"):
        fitted(None, int, "at")
