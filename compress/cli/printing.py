"""What commands print: tables for people, or one JSON document, on stdout."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compress.console import duration

if TYPE_CHECKING:
    import pandas as pd

    from baselines import Forecast
    from compress.runs import Run


def show_runs(runs: Sequence[Run], *, as_json: bool) -> None:
    """Print the exits of every run, its ensemble if it has one, and its directory; or the records as JSON."""
    if as_json:
        return print_json({"runs": [run_as_json(run) for run in runs]})
    for run in runs:
        table = table_of(run.exits)
        if of_classes := run.record.results.get("per_class"):
            table["balanced_accuracy"] = of_classes["balanced_accuracy"]
        print_table(table.round(4))
        if run.ensemble is not None:
            print(_ensemble(run.id, run.ensemble))
        print(f"run: {run.path}")


def _ensemble(run: str, row: Mapping[str, Any]) -> str:
    """The ensemble in a line: what is averaged, what that gives, and how to name it."""
    exits, weights = ", ".join(map(str, row["exits"])), ", ".join(f"{weight:.2f}" for weight in row["weights"])
    gain = row.get("calibration_gain")
    unseen = "" if gain is None else f"; against the last exit {100 * gain:+z.2f} points on calibration images"
    balanced = f", balanced {row['per_class']['balanced_accuracy'][0]:.4f}" if "per_class" in row else ""
    accuracy = f"test accuracy {row['test_accuracy']:.4f}{balanced}{unseen}"
    return f"ensemble of exits {exits}, weights {weights}: {accuracy} ({run}:ensemble)"


def show_forecasts(forecasts: Sequence[Forecast], *, as_json: bool) -> None:
    """Print what each budget would reach and how long that would take; or JSON."""
    if as_json:
        return print_json({"forecasts": [_forecast_as_json(forecast) for forecast in forecasts]})
    for forecast in forecasts:
        before = forecast.whole.macs
        if not forecast.trained:
            print("there is no reference yet: scores are those of random weights, sizes are right")
        for what, size in (("it has", forecast.whole), ("at most", forecast.largest), ("at least", forecast.smallest)):
            print(f"{what:14}{size.macs:>14,} MACs ({before / size.macs:.3f}x){size.params:>14,} parameters")
        if forecast.achieved and forecast.seconds is not None:
            size = forecast.achieved
            print(f"{forecast.requested}: {size.macs:,} MACs ({before / size.macs:.3f}x), {size.params:,} parameters")
            print(f"training would take about {duration(forecast.seconds)}")
        else:
            print(f"{forecast.requested}: {forecast.refused}")


def show_latencies(rows: Sequence[dict[str, Any]], skipped: Sequence[str] | None = None, *, as_json: bool) -> None:
    """Print a table of what was measured of every exit; or that, with what was skipped, as JSON."""
    if as_json:
        return print_json({"rows": rows} | ({} if skipped is None else {"skipped": skipped}))
    if not rows:
        return
    table = table_of(rows)[["run", "exit", "macs", "params", "engine", "precision", "batch_size"]]
    if any("bytes" in row for row in rows):
        table.insert(4, "bytes", [str(row.get("bytes", "")) for row in rows])
    if all("seconds" in row for row in rows):
        table["median ms"] = [f"{1e3 * row['seconds'][1]:.2f}" for row in rows]
        table["ratio [95%]"] = [_with_interval(row["ratio"][1], row["ratio_interval"]) for row in rows]
    if any("test_accuracy" in row for row in rows):
        table["test accuracy"] = [f"{row['test_accuracy']:.4f}" if "test_accuracy" in row else "" for row in rows]
    print_table(table)


def show_exits(document: Mapping[str, Any]) -> None:
    """Print early-exit policies, the guarantee and what was measured; or why there is none."""
    for policy in document["policies"]:
        certificate = policy["certificate"]
        budget = f"chosen for {policy['budget_macs'] or 0:,.0f} MACs; nothing is guaranteed"
        print(_guarantee(certificate) if certificate else budget)
        rows = [
            {"exit": exit, "threshold": f"{threshold:.4f}", "share of test images": f"{share:.1%}"}
            for exit, (threshold, share) in enumerate(
                zip([*policy["policy"]["thresholds"], 0], policy["shares"], strict=True), start=1
            )
        ]
        print_table(table_of(rows))
        low, high = policy["test_interval"]
        print(
            f"test accuracy {policy['test_accuracy']:.4f} [{low:.4f}, {high:.4f}], "
            f"drop {100 * policy['test_drop']:.2f} points; mean MACs {policy['mean_macs']:,.0f}, "
            f"{policy['mean_macs'] / policy['full_macs']:.1%} of all"
        )
        for row in policy["measured"]["rows"] if policy["measured"] else []:
            print(
                f"batch {row['batch_size']}: {row['ratio'][1]:.2f} of the whole network's time at "
                f"{row['mean_macs'] / policy['full_macs']:.2f} of its MACs; {row['idle_ratio'][1]:.2f} if none leaves"
            )
    if not document["certified"]:
        print(document["reason"])


def _guarantee(certificate: Mapping[str, Any]) -> str:
    what = "accuracy drop" if certificate["risk"] == "drop" else "disagreement with the last exit"
    return (
        f"certified: {what} at most {100 * certificate['epsilon']:g} points with "
        f"{100 * (1 - certificate['delta']):g}% confidence ({certificate['n']:,} calibration images, observed "
        f"{100 * certificate['observed']:.2f}, {certificate['engine']} in {certificate['precision']} on "
        f"{certificate.get('device', 'cpu')})"
    )


def show_methods(methods: Mapping[str, str], *, as_json: bool) -> None:
    """Print the pruning methods, each with a description; or JSON."""
    if as_json:
        return print_json({"methods": dict(methods)})
    width = max(map(len, methods)) + 2
    for name, card in methods.items():
        print(textwrap.fill(card, 80, initial_indent=f"{name:{width}}", subsequent_indent=" " * width))


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.2f}" if interval is None else f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _forecast_as_json(forecast: Forecast) -> dict[str, Any]:
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in vars(forecast).items()}


def run_as_json(run: Run) -> dict[str, Any]:
    return {"id": run.id, "path": str(run.path)} | dataclasses.asdict(run.record)


def print_table(frame: pd.DataFrame) -> None:
    print(frame.to_string(index=False))


def print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document))


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd  # here, as most errors and all help come without a table

    return pd.DataFrame(rows)
