"""Kills at random moments: `python -m benchmarks.study.kills --times 20` kills nodes and commands of studies on Ray.

Each time a small study is made anew by a head and another node, with an object store between them, and something is
killed at a random moment of the time that it takes undisturbed: all processes of the node, or the command that started
the study, which is started again.
The results have to be those of a single process, bit for bit, and no epoch that was kept may be trained twice: every
checkpoint is written once, so that at most the epoch under way is lost. Last, the store is killed and comes back after
`--outage` seconds. Exits with status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study.rehearsal import BUCKET, Rehearsal

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
EPOCHS, EVERY = 10, 8  # of the recipe; of the images
SAME = ("config", "results", "command", "parent", "spec")  # fields of records, which do not depend on the clock
FILES = ("model.safetensors", "predictions.npz")


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
    return lines


def repeated(rehearsal: Rehearsal, place: str) -> list[str]:
    """Runs whose checkpoints were not written once each: before the first epoch, and after every epoch."""
    folder, writes = rehearsal.store.folder / BUCKET / place, rehearsal.store.writes()
    lines = []
    for path in sorted(folder.glob("*/run.json")):
        epochs = json.loads(path.read_text())["cost"].get("epochs", 0)
        written = writes[f"{place}/{path.parent.name}/checkpoint/last.pt"]
        if written != epochs + 1:
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
    ended = driver.poll() is not None
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
    return {"killed": what, "moment": round(moment, 1), "after_the_end": ended, "status": status}


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill so many times; returns 1 where anything differed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study.kills", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="how often (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of what is killed, and when (default: 0)")
    parser.add_argument("--outage", type=float, default=60, help="seconds without the store, last; 0: no outage")
    parser.add_argument("--out", type=Path, help="JSON file of what happened")
    given = parser.parse_args(arguments)
    drawn, rows = random.Random(given.seed), []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, Rehearsal(Path(folder)) as rehearsal:
        study, expected = Path(folder) / "study.toml", Path(folder) / "expected"
        study.write_text(STUDY)
        task = [str(study), str(EPOCHS), str(EVERY)]
        alone = [sys.executable, "-m", "benchmarks.study.rehearsal", *task, str(expected)]
        subprocess.run(alone, check=True, env=rehearsal.environment("alone"), stderr=subprocess.DEVNULL)
        within = undisturbed(rehearsal, task, "undisturbed")
        kills = [(drawn.choice(["node", "command"]), drawn.uniform(0, within)) for _ in range(given.times)]
        kills += [(f"store {given.outage:g}", 2.0)] * bool(given.outage)
        for number, (what, moment) in enumerate(kills):
            row = kill_once(rehearsal, task, place := f"kill{number}", what, moment)
            row["differences"] = differences(rehearsal.store.folder / BUCKET / place, expected)
            row["repeated"] = repeated(rehearsal, place)
            rows.append(row)
            print(json.dumps(row), flush=True)
    bad = [row for row in rows if row["status"] or row["differences"] or row["repeated"]]
    print(f"{len(rows)} times: {len(rows) - len(bad)} ended with the same results, no kept epoch trained twice")
    if given.out:
        given.out.write_text(json.dumps({"seed": given.seed, "kills": rows}, indent=1) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
