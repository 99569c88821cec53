"""The `compress` command: its subcommands by name, and how it ends.

Results go to stdout: a table, or with `--json` one JSON document. Everything else goes to stderr. An error that the
user can mend is one line and exit status 2. A subcommand checks what it was given before it imports torch.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from compress import __version__
from compress.cli.bench_command import bench
from compress.cli.data_command import data
from compress.cli.exits_command import exits
from compress.cli.export_command import export
from compress.cli.predict_command import predict
from compress.cli.probe_command import probe
from compress.cli.prune_command import prune
from compress.cli.report_command import report
from compress.cli.select_command import select
from compress.cli.study_command import study
from compress.cli.train_command import train, train_mwbp
from compress.errors import UsageError, one_line
from compress.machine import summary

app = App(
    name="compress",
    help="Small, fast image classifiers: multi-exit training, pruning baselines, and a fair comparison of both.",
    version=lambda: "\n".join([__version__, *summary()]),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    result_action="return_int_as_exit_code_else_zero",
    default_parameter=Parameter(negative=""),
)
SEVERAL_PROCESSES = ("train", "train-mwbp", "prune")  # the commands that torchrun may start
for command in (train, train_mwbp, prune, bench, exits, probe, select, export, predict, study, report, data):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: the command's, usually 0, or 2 for an error that the user can mend."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given and not faulthandler.is_enabled():
        faulthandler.enable(2)  # stderr; the watchdog uses it for a training that makes no progress, too
    name = next(iter(given), "")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and classes are any bytes
    several = "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE") != "1"
    try:
        joined: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if several:
            from compress.training import distributed

            joined = distributed.joined()
        with joined:
            if several and name in app and name not in SEVERAL_PROCESSES:
                raise UsageError(f"{name} runs in one process; under torchrun: {', '.join(SEVERAL_PROCESSES)}")
            status: int = app(given, exit_on_error=False, print_error=False)
            return status
    except Exception as error:
        text = _what_to_mend(error, name)
        if text is None or "--debug" in given:
            raise
        print(f"compress: {one_line(text)}", file=sys.stderr)
        return 2


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
