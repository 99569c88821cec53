"""Probed blocks: a frame with a row a block of every probed run, and one with a row a retraining."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.probing.probe_file import read_probe
from benchmarks.results.rows import names_by_series, rows, summarise
from benchmarks.results.series import series
from benchmarks.statistics.scores import unpack
from compress.console import console
from compress.runs import Run

GAPPY = ("gradient_share", "cka_to_next", "skip_drop")  # measures that do not apply to every block


def read_probes(runs: Sequence[Run], names: Mapping[str, str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row a block, and a row a retraining, of every run that was probed, with gaps where a measure does not apply.

    Besides the block's entry in `probe.json` both have: `run`, `network`, `series`, `seed`, `method`, `kind`,
    `accuracy` (of the final exit), `blocks` (their number), `position` (the share of them up to this one) and `images`
    (held out). `right` is a bool array `(images,)`: which of these the block's probe classified correctly. Left out, as
    they do not compare, are probes of other samples than most runs' (a line on each is printed), and retrainings for
    fewer epochs than the most that all retrained runs have.

    Args:
        names: network names by series, see `names_by_series`; by default those of the runs' own summary.
    """
    if names is None:
        names = names_by_series(summarise(rows(runs))) if runs else {}
    found = [(run, document) for run in runs if (document := read_probe(run))]
    samples = [json.dumps(document["sample"], sort_keys=True) for _, document in found]
    usual = max(samples, key=samples.count, default="")
    documents = [each for each, sample in zip(found, samples, strict=True) if sample == usual]
    for (run, _), sample in zip(found, samples, strict=True):
        if sample != usual:
            console.print(
                f"skipped: the probe of {run.id}, which is on other images than most; compress probe makes another"
            )
    blocks, retrained = _rows(documents, "blocks", names), _rows(documents, "retrained", names)
    if not blocks.empty:
        blocks = blocks.astype(dict.fromkeys(GAPPY, float))
        blocks["right"] = blocks.apply(lambda row: unpack(row["right"], row["images"]), axis=1)
    if not retrained.empty:
        shared = set.intersection(*(set(epochs) for _, epochs in retrained.groupby("run")["epochs"]))
        retrained = retrained[retrained["epochs"] == max(shared, default=0)]
    return blocks, retrained


def _rows(documents: Sequence[tuple[Run, dict[str, Any]]], key: str, names: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run": run.id,
                "network": names[series(run)],
                "series": series(run),
                "seed": run.record.seed,
                "kind": run.record.kind,
                "method": run.record.method,
                "accuracy": document["accuracy"],
                "images": document["images"]["held_out"],
                "seen_in_training": document["images"]["seen_in_training"],
                "blocks": len(document["blocks"]),
                "position": row["block"] / len(document["blocks"]),
            }
            | row
            for run, document in documents
            for row in document[key]
        ]
    )
