"""Probed blocks: what probes of finished runs measured, as a frame with a row a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmarks.probing.probe import read_probe, unpack
from benchmarks.results.rows import distinct_names, series
from compress.runs import Run

GAPPY = ("gradient_share", "cka_to_next", "skip_drop")  # measures that do not apply to every block


def read_probes(runs: Sequence[Run]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row a block, and one a retraining, of every run that was probed, with gaps where a measure does not apply.

    Both have, besides what `probe.json` says of the block: `run`, `network`, `series`, `seed`, `method`, `kind`,
    `accuracy` (of the final exit), `blocks` (how many there are), `position` (the share of them up to here) and
    `images` (held out). `right` is a bool array `(images,)`: which of these the block's probe got right. Retrainings
    are those for the largest number of epochs for which all retrained runs have some, since others do not compare; nor
    do probes of other samples than the first run's, which are left out.
    """
    documents = [(run, document) for run in runs if (document := read_probe(run))]
    documents = [one for one in documents if one[1]["sample"] == documents[0][1]["sample"]]
    names = distinct_names(runs)
    blocks, retrained = _rows(documents, "blocks", names), _rows(documents, "retrained", names)
    if not blocks.empty:
        blocks = blocks.astype(dict.fromkeys(GAPPY, float))
        blocks["right"] = blocks.apply(lambda row: unpack(row["right"], row["images"]), axis=1)
    if not retrained.empty:
        shared = set.intersection(*(set(epochs) for _, epochs in retrained.groupby("run")["epochs"]))
        retrained = retrained[retrained["epochs"] == max(shared, default=0)]
    return blocks, retrained


def _rows(documents: Sequence[tuple[Run, dict[str, Any]]], key: str, names: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "run": run.id,
                "network": names[run.id],
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
