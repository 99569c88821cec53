"""Workers: a stage of a check in a process of its own, which says in one line why it ends early."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from benchmarks.gpu.check_setting import Wanted
from compress.errors import UsageError
from compress.signals import heeded


def work(stage: Callable[[Wanted, float], None]) -> None:
    """Do what a stage does; the command line says what is wanted, and until when by `time.monotonic`."""
    try:
        with heeded():
            wanted = Wanted.of_json(sys.argv[1])
            if wanted.note:
                torch.set_num_threads(1)  # the try-out's networks are so small that several would wait for each other
            stage(wanted, float(sys.argv[2]) - time.monotonic())  # that clock is the same in all processes
    except UsageError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped")
