"""`compress probe`: what every block of finished runs has learnt."""

from __future__ import annotations

from pathlib import Path

from compress.cli.options import OUTPUT, PLACE, Flag, Output, PlaceOptions, Whole
from compress.runs import find_run


def probe(
    *run: str,
    retrain: Flag = False,
    epochs: Whole | None = None,
    out: Path = Path("report"),
    data_dir: Path | None = None,
    place: PlaceOptions = PLACE,
    output: Output = OUTPUT,
) -> None:
    """Measure what every block of finished runs has learnt: whether shallow blocks lack supervision.

    Each run gets a file probe.json, which says of every block:

    - the accuracy of a linear probe;
    - the share of the final loss's gradient that reaches it;
    - its similarity to the next block (CKA);
    - the accuracy lost when it is skipped.

    Args:
        run: Run directories, or ids (or their beginnings) under --runs.
        retrain: Also freeze a quarter, half and three quarters of the blocks, and train the others anew by plain BP.
        epochs: Epochs of retraining, instead of the run's own.
        out: Directory for the figure that compares the runs.
        data_dir: Directory in which the data are looked for first.
    """
    found = [find_run(name, place.runs) for name in run]

    from benchmarks import probe, probe_tables, read_probes, write_probe_figure
    from compress.cli.printing import print_json, print_table

    documents = probe(found, retrain=retrain, epochs=epochs, data_dir=data_dir, device=place.device)
    measured = read_probes(found)
    figure = write_probe_figure(*measured, out / "probe")
    if output.json:
        named = [{"run": run.id} | document for run, document in zip(found, documents, strict=True)]
        return print_json({"runs": named, "figure": str(figure)})
    for table in probe_tables(*measured):
        print_table(table)
        print()
    print(figure)
