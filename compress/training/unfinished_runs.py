"""Unfinished runs: the nearest to a run that `--resume` did not find, and their differences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.runs import Run, abandoned_runs

# Names of configuration keys that are no options; keys with an empty name follow from others.
WORDS = {
    "objective": "the weights of losses",
    "spec": "the network",
    "data": "the images",
    "augmentable": "",
    "reference": "",
    "teacher_reference": "",
    "parent": "the run that it starts from",
    "initial": "the initial weights",
    "code": "the code of the network",
    "name": "recipe",
}
OPEN = ("recipe", "request")  # keys whose values consist of options


def nearest_unfinished(config: dict[str, Any], data: str, runs: Path) -> str | None:
    """A sentence on the unfinished run whose configuration is nearest, with its differences and its command.

    None if there is no unfinished run of the same kind, method and architecture. `data` is the name of the data set.
    """
    same = ("kind", "method")
    found = [
        (run, list(_differences(run, config, data)))
        for run in abandoned_runs(runs)
        if all(run.record.config.get(key) == config[key] for key in same) and run.record.arch == config["spec"]["arch"]
    ]
    if not found:
        return None
    run, differences = min(found, key=lambda pair: len(pair[1]))
    return (
        f"the nearest unfinished one is {run.id}, which differs in {', '.join(differences)}; to go on with that "
        f"(--runs {runs}): {run.record.command}"
    )


def _differences(run: Run, config: dict[str, Any], data: str) -> Iterator[str]:
    """The differences between a run's configuration and another, a few words each."""
    before, now = _flat(run.record.config), _flat(config)
    for key in {**before, **now}:
        was, is_ = before.get(key), now.get(key)
        name = WORDS.get(key, key.replace("_", " "))
        if was == is_ or not name:
            continue
        if key == "data":
            was, is_ = run.record.data["name"], data
            name = "the images" if was != is_ else f"the images of {data}, which have changed"
        plain = was != is_ and all(isinstance(value, str | int | float | bool | None) for value in (was, is_))
        yield f"{name} ({_word(was)}, now {_word(is_)})" if plain else name


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the options in its `OPEN` keys moved to the top level."""
    flat = {key: value for key, value in config.items() if key not in OPEN}
    for part in OPEN:
        flat |= config.get(part) or {}
    return flat


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
