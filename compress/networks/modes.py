"""Train and eval mode of a module and of all its submodules, restored after use."""

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


@contextlib.contextmanager
def modes_kept(module: Module) -> Iterator[Module]:
    """Restore the mode of every submodule at the end, whatever was changed within."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield module
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def evaluating(module: Module) -> Iterator[Module]:
    """Put a module into eval mode; every submodule gets its own mode back at the end."""
    with modes_kept(module):
        yield module.eval()
