"""Schemas: plain data converted to dataclasses, with the types, bounds and lengths of their fields checked.

A schema is a dataclass, such as a `Struct`, whose fields have the types of JSON and TOML: bool, int, float, str, None,
tuples, lists, dicts, typed ones too, literals, other dataclasses, unions of these, and `Annotated[..., Meta(...)]`. An
int fits a float and becomes one, a list becomes the tuple that is asked for; nothing else is converted.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from compress.errors import UsageError

T = TypeVar("T")
LONGEST = 120  # characters of a field or key that an error repeats
_NAMES = {bool: "bool", int: "int", float: "float", str: "str", NoneType: "null", Any: "anything", object: "anything"}
_NAMES |= dict.fromkeys((list, tuple, Sequence), "array") | dict.fromkeys((dict, Mapping), "object")


class UnsetType(Enum):
    """The type of UNSET."""

    UNSET = "unset"


UNSET = UnsetType.UNSET  # the default of a field whose absence is not None


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Struct:
    """Makes a class that derives from it a frozen dataclass, with keywords alone unless it says otherwise."""

    def __init_subclass__(cls, *, frozen: bool = True, kw_only: bool = True) -> None:
        dataclass(frozen=frozen, kw_only=kw_only)(cls)


@dataclass(frozen=True, kw_only=True)
class Meta:
    """Bounds of a number, the least length of an array, and the pattern of a text, for `Annotated`."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    min_length: int | None = None
    pattern: str | None = None

    def problem(self, value: Any) -> str | None:
        """What the value should be and is not; None if it is within the bounds."""
        if self.ge is not None and value < self.ge:
            return f">= {self.ge}"
        if self.gt is not None and value <= self.gt:
            return f"> {self.gt}"
        if self.le is not None and value > self.le:
            return f"<= {self.le}"
        if self.min_length is not None and len(value) < self.min_length:
            return f"of length >= {self.min_length}"
        if self.pattern is not None and not re.search(self.pattern, value):
            return f"matching {self.pattern!r}"
        return None


def fitted(data: object, kind: type[T], field: str = "") -> T:
    """Convert plain data to `kind` and check the types of its fields.

    Unknown fields are ignored: a later version may have written them. `field` is the place of the data in a document.

    Raises:
        UsageError: a field is missing, of another type, or refused by `kind` itself.
    """
    return cast(T, _convert(data, kind, field))


def at(field: str, reason: str) -> str:
    """A reason behind the field that it is about, if there is one."""
    return f"{field.lstrip('.')[:LONGEST]}: {reason}" if field else reason


def _convert(data: Any, kind: Any, field: str) -> Any:
    choices = [choice for choice in _choices(kind) if choice is not UnsetType]
    given: Any = type(data)
    names, got = [_name(choice) for choice in choices], _name(given)
    for wanted in (got, "float" if got == "int" else got, "anything"):
        if wanted in names:
            return _read(data, choices[names.index(wanted)], field)
    raise UsageError(at(field, f"expected `{' | '.join(names)}`, got `{got}`"))


def _read(data: Any, kind: Any, field: str) -> Any:
    """The data, which are of the JSON type of `kind`, as `kind`."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Annotated:
        value = _convert(data, arguments[0], field)
        for problem in filter(None, (meta.problem(value) for meta in arguments[1:])):
            raise UsageError(at(field, f"expected `{_name(kind)}` {problem}"))
        return value
    if origin is Literal:
        if data not in arguments:
            raise UsageError(at(field, f"invalid value {str(data)[:LONGEST]!r}"))
        return data
    if dataclasses.is_dataclass(origin):
        return data if isinstance(data, cast(type, origin)) else _made(data, origin, field)
    if is_typeddict(origin):
        return _values(data, origin, field)
    if origin is float:
        return float(data)
    if origin in (dict, Mapping):
        of_key, of_value = arguments or (Any, Any)
        keys = [_convert(key, of_key, f"{field}, a key") for key in data]
        return {key: _convert(data[key], of_value, f"{field}.{key}") for key in keys}
    if origin in (list, tuple, Sequence):
        return _array(data, origin, arguments, field)
    return data


def _array(data: Sequence[Any], origin: Any, arguments: tuple[Any, ...], field: str) -> Any:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(data) != len(arguments):
            raise UsageError(at(field, f"expected `array` of length {len(arguments)}, got {len(data)}"))
        kinds = arguments
    else:
        kinds = (arguments[0] if arguments else Any,) * len(data)
    pairs = enumerate(zip(data, kinds, strict=True))
    values = [_convert(item, kind, f"{field}[{position}]") for position, (item, kind) in pairs]
    return tuple(values) if origin is tuple else values


def _made(data: Mapping[str, Any], kind: Any, field: str) -> Any:
    """A dataclass made of the fields that there are."""
    values = _values(data, kind, field)
    try:
        return kind(**values)
    except ValueError as error:
        reason = str(error)
        raise UsageError(at(field, f"{reason[:1].lower()}{reason[1:]}")) from error


def _values(data: Mapping[str, Any], kind: Any, field: str) -> dict[str, Any]:
    """The fields of a dataclass or of a typed dict that there are."""
    values = {}
    for name, (hint, required) in _fields(kind).items():
        if name in data:
            values[name] = _convert(data[name], hint, f"{field}.{name}")
        elif required:
            raise UsageError(at(field, f"object missing required field `{name}`"))
    return values


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The type of every field, and whether it has to be there."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
        return {name: (get_args(hint)[0], False) if name in optional else (hint, True) for name, hint in hints.items()}
    return {
        each.name: (hints[each.name], each.default is each.default_factory is dataclasses.MISSING)
        for each in dataclasses.fields(kind)
        if each.init
    }


@cache
def _choices(kind: Any) -> tuple[Any, ...]:
    """The types of which a union is made; any other type alone."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(choice for part in get_args(kind) for choice in _choices(part))
    return (kind,)


@cache
def _name(kind: Any) -> str:
    """The JSON type of what a type describes."""
    origin = get_origin(kind) or kind
    if origin is Annotated:
        return _name(get_args(kind)[0])
    if origin is Literal:
        first: Any = type(get_args(kind)[0])
        return _name(first)
    if dataclasses.is_dataclass(origin) or is_typeddict(origin):
        return "object"
    return _NAMES.get(origin) or str(getattr(kind, "__name__", kind))
