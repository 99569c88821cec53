"""The `compress` command: its subcommands by name, and how it ends.

Results go to stdout: a table, or with `--json` one JSON document. Everything else goes to stderr. An error that the
user can mend is one line and exit status 2. A subcommand's module is imported when the subcommand is called; it checks
what it was given before it imports torch.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from compress import __version__
from compress.errors import UsageError, one_line


def _version() -> str:
    from compress.machine import summary

    return "\n".join([__version__, *summary().split("; ")])


app = App(
    name="compress",
    help="Small, fast image classifiers: multi-exit training, pruning baselines, and a fair comparison of both.",
    version=_version,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=""),
)
COMMANDS = {
    "train": "Train a network with one exit by plain backpropagation (BP).",
    "train-mwbp": "Train a multi-exit network by multi-way backpropagation (MW-BP).",
    "prune": "Prune a trained network to a budget and fine-tune it, or train a control of that budget.",
    "bench": """Measure size, latency, memory and, where possible, energy of every exit of finished runs.

Latency is measured interleaved, in ratios to the last exit of the first run named. Results go to each run's \
bench.json (latency, energy) and costs.json (bytes, activations, peak memory of training and inference).""",
    "probe": """Measure what every block of finished runs has learnt: whether shallow blocks lack supervision.

For every block: the accuracy of a linear probe, the share of the final loss's gradient that reaches it, its \
similarity to the next block (CKA), and the accuracy lost when it is skipped. Results go to each run's probe.json.""",
    "study": "Run a whole comparison: train what is missing, measure it and write the report.",
    "report": "Write the report that compares all finished runs: Markdown, an HTML page, CSV, figures and records.",
    "data": "Show which data sets are here, how to get the others, and what this machine computes with.",
}
SEVERAL_PROCESSES = ("train", "train-mwbp", "prune")  # the commands that torchrun may start
for _name, _help in COMMANDS.items():
    _function = _name.replace("-", "_")
    _module = "train" if _function.startswith("train") else _function
    app.command(f"compress.cli.{_module}_command:{_function}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, or 2 for an error that the user can mend."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given and not faulthandler.is_enabled():
        faulthandler.enable(2)  # stderr; the watchdog uses it for a training that makes no progress, too
    command = next(iter(given), "")
    several = "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE") != "1"
    try:
        with _joined() if several else contextlib.nullcontext():
            if several and command in COMMANDS and command not in SEVERAL_PROCESSES:
                raise UsageError(f"{command} runs in one process; under torchrun: {', '.join(SEVERAL_PROCESSES)}")
            app(given, exit_on_error=False, print_error=False, result_action="return_none")
    except Exception as error:
        text = _what_to_mend(error, command)
        if text is None or "--debug" in given:
            raise
        print(f"compress: {one_line(text)}", file=sys.stderr)
        return 2
    return 0


def _joined() -> contextlib.AbstractContextManager[object]:
    """Return a context in which this process belongs to the group that torchrun started."""
    from compress.training import distributed

    return distributed.joined()


def _what_to_mend(error: Exception, command: str) -> str | None:
    """Return what the user can mend: a mistake, an unusable file, too little memory; None for a fault of ours."""
    if isinstance(error, UsageError | CycloptsError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or command}: {error.strerror or error}"
    if is_out_of_memory(error):
        return f"{command}: there is not enough memory here; smaller images, batches or networks take less"
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Python, numpy or torch asked for more memory than there is, on the CPU or a GPU."""
    torch = sys.modules.get("torch")  # what has not been imported has raised nothing
    kinds = (MemoryError, torch.OutOfMemoryError) if torch else MemoryError
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
