"""Kills at random moments: `python -m benchmarks.study.kills --times 20` kills nodes and commands of studies on Ray.

Each time a small study is made anew by a head and another node, with an object store between them, and something is
killed at a random moment of the time that it takes undisturbed: all processes of the node, or the command that started
the study, which is started again.
The results have to be those of a single process, bit for bit, and no epoch that was kept may be trained twice: every
checkpoint is written once, so that at most the epoch under way is lost. Last, the store is killed and comes back after
`--outage` seconds.

Not every kill proves something. One hits where a run was under way: a node, where a run that had begun there began
again elsewhere; a command or the store, where by the command's log a run had begun that was not made yet. The last line
says how many did. A kill that hit nothing, as after the study's end, counts among the times but not among the hits.
An answer of the store that its death cuts off makes the client write again, so that then one checkpoint of a run may be
written twice.

Exits with status 1 where anything differs, or nothing was hit.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.study.graph import graph
from benchmarks.study.rehearsal import BUCKET, Rehearsal
from benchmarks.study.study import read_study
from compress.runs import finished_runs, write_json

STUDY = """
title = "Kills"
about = "Is a study that is killed the same as one that is not?"
takes = "a minute"
dataset = "fashion-mini"
recipe = "quick"
reference = "plain"
run = [
    {name = "plain", command = "train", arch = "resnet8"},
    {name = "multi", command = "train-mwbp", arch = "resnet8", exits = 2},
    {name = "l1", command = "prune", from = "plain", speedup = 1.5},
]
"""
WHAT = ("node", "command")
EPOCHS, EVERY = 10, 8  # of the recipe; of the images
SAME = ("config", "results", "command", "parent", "spec")  # fields of records, which do not depend on the clock
FILES = ("model.safetensors", "predictions.npz")
OF_THE_MACHINE = ("seconds", "images_per_second", "load")  # fields of an epoch's line that are not of the run


def differences(runs: Path, expected: Path) -> list[str]:
    """What differs between finished runs and those that are expected: in number, records, weights or predictions."""
    found, wanted = ({path.parent.name for path in place.glob("*/run.json")} for place in (runs, expected))
    lines = [f"{name}: only in one of the two" for name in sorted(found ^ wanted)]
    for name in sorted(found & wanted):
        records = [json.loads((place / name / "run.json").read_text()) for place in (runs, expected)]
        lines += [f"{name}: {field} differs" for field in ("status", *SAME) if records[0][field] != records[1][field]]
        for file in FILES:
            contents = [(place / name / file) for place in (runs, expected)]
            if any(not path.exists() for path in contents) or len({path.read_bytes() for path in contents}) > 1:
                lines.append(f"{name}: {file} differs")
        if _epochs(runs / name) != _epochs(expected / name):
            lines.append(f"{name}: metrics.jsonl differs")
    return lines


def _epochs(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's epochs, without what depends on the clock; none where there is no file."""
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in row.items() if key not in OF_THE_MACHINE} for row in rows]


def repeated(rehearsal: Rehearsal, place: str, *, cut_off: int = 0) -> list[str]:
    """Runs whose checkpoints were not written once each: before the first epoch, and after every epoch.

    Args:
        cut_off: answers of the store that may have been lost, so that a checkpoint was written again.
    """
    folder, writes = rehearsal.store.folder / BUCKET / place, rehearsal.store.writes()
    lines = []
    for path in sorted(folder.glob("*/run.json")):
        epochs = json.loads(path.read_text())["cost"].get("epochs", 0)
        written = writes[f"{place}/{path.parent.name}/checkpoint/last.pt"]
        if not epochs + 1 <= written <= epochs + 1 + cut_off:
            lines.append(f"{path.parent.name}: {written} checkpoints of {epochs} epochs")
    return lines


def wait_for(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it never was.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} was not so within {seconds:g} s")
        time.sleep(0.2)


def undisturbed(rehearsal: Rehearsal, task: Sequence[str], place: str) -> float:
    """Make a study that nothing is killed of; returns the seconds from its first checkpoint to its end."""
    driver = rehearsal.drive(task, place)
    began = _first_checkpoint(rehearsal, place, driver)
    driver.wait()
    return time.monotonic() - began


def _first_checkpoint(rehearsal: Rehearsal, place: str, driver: subprocess.Popen[bytes]) -> float:
    """Wait for a study's first checkpoint, or its end; returns when that was, by `time.monotonic`."""
    folder = rehearsal.store.folder / BUCKET / place
    wait_for(lambda: any(folder.glob("*/checkpoint/last.pt")) or driver.poll() is not None)
    return time.monotonic()


def kill_once(rehearsal: Rehearsal, task: Sequence[str], place: str, what: str, moment: float) -> dict[str, Any]:
    """Make a study and kill something `moment` seconds after its first checkpoint; returns what came of it."""
    driver = rehearsal.drive(task, place)
    _first_checkpoint(rehearsal, place, driver)
    time.sleep(moment)
    ended, hit = driver.poll() is not None, under_way(rehearsal.log(place))
    if what == "node":
        rehearsal.kill_node()
        rehearsal.add_node()
    elif what == "command":
        driver.kill()
        driver.wait()
        driver = rehearsal.drive(task, place)
    else:
        rehearsal.store.stop()
        time.sleep(float(what.partition(" ")[2]))
        rehearsal.store.start()
    status = driver.wait()
    hit = begun_again(rehearsal.log(place)) if what == "node" else hit
    return {
        "killed": what,
        "moment": round(moment, 1),
        "after_the_end": ended,
        "hit": [] if ended else hit,
        "status": status,
    }


def under_way(log: str) -> list[str]:
    """The runs that have begun and have no outcome yet, by what a command has printed."""
    made = set(re.findall(r"^\[\d+/\d+\] (.+): \S+; about ", log, re.MULTILINE))
    return sorted({run for run in _begun(log) if run not in made and f"did not run: {run}: " not in log})


def begun_again(log: str) -> list[str]:
    """The runs that have begun more than once, by what a command that was never started again has printed."""
    return sorted(run for run, times in Counter(_begun(log)).items() if times > 1)


def _begun(log: str) -> list[str]:
    return re.findall(r"^(.+): on \S+$", log, re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill so many times; returns 1 where anything differed or nothing was hit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--times", type=int, default=20, help="how often (default: 20)")
    parser.add_argument("--what", choices=WHAT, help="what is killed every time (default: drawn, one or the other)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of what is killed, and when (default: 0)")
    parser.add_argument("--outage", type=float, default=60, help="seconds without the store, last; 0: no outage")
    parser.add_argument("--out", type=Path, help="JSON file of what happened")
    given = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, Rehearsal(Path(folder)) as rehearsal:
        study, expected = Path(folder) / "study.toml", Path(folder) / "expected"
        study.write_text(STUDY)
        task = [str(study), str(EPOCHS), str(EVERY)]
        alone = [sys.executable, "-m", "benchmarks.study.rehearsal", *task, str(expected)]
        subprocess.run(alone, check=True, env=rehearsal.environment("alone"), stderr=subprocess.DEVNULL)
        wanted, finished = len(graph(read_study(str(study)))), len(finished_runs(expected)[0])
        assert finished == wanted, f"a single process made {finished} of {wanted} runs: nothing to compare with"
        within = undisturbed(rehearsal, task, "undisturbed")
        for number, (what, moment) in enumerate(_drawn(given, within)):
            row = kill_once(rehearsal, task, place := f"kill{number}", what, moment)
            row["differences"] = differences(rehearsal.store.folder / BUCKET / place, expected)
            row["repeated"] = repeated(rehearsal, place, cut_off=what not in WHAT)
            rows.append(row)
            print(json.dumps(row), flush=True)
            if given.out:  # after every kill: a node that does not start, as on a loaded machine, ends all
                write_json(given.out, {"seed": given.seed, "kills": rows})
    print(summary(rows))
    return bool(_bad(rows)) or not any(row["hit"] for row in rows)


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """How many kills there were, how many of them hit a run under way, and how many studies ended well."""
    hits = Counter(row["killed"].partition(" ")[0] for row in rows if row["hit"])
    by = ", ".join(f"{count} of a {what}" for what, count in hits.items())
    return (
        f"{len(rows)} times, {hits.total()} kills hit a run under way ({by or 'none'}): "
        f"{len(rows) - len(_bad(rows))} ended with the same results, no kept epoch trained twice"
    )


def _bad(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["status"] or row["differences"] or row["repeated"]]


def _drawn(given: argparse.Namespace, within: float) -> list[tuple[str, float]]:
    """What is killed and how many seconds after the first checkpoint, each time; the store last."""
    random = Random(given.seed)
    kills = [(given.what or random.choice(WHAT), random.uniform(0, within)) for _ in range(given.times)]
    return kills + [(f"store {given.outage:g}", 2.0)] * bool(given.outage)


if __name__ == "__main__":
    sys.exit(main())
