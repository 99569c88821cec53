"""What cannot be exported: the module that an exporter refuses, found and named."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compress.errors import UsageError, first_line

Exporter = Callable[..., object]  # as torch.export.export: a module, its arguments, and dynamic_shapes


@contextlib.contextmanager
def exportable(arch: str, module: nn.Module, images: Tensor, exporter: Exporter) -> Iterator[None]:
    """Turn any error of an exporter into one line that names the architecture and the module.

    Raises:
        UsageError: there was one.
    """
    try:
        yield
    except Exception as error:  # the exporters' errors have no common class
        where, why = culprit(module, images, exporter) or ("", error)
        named = f"module {where} of this network" if where else "this network"
        raise UsageError(f"{arch}: {exporter.__module__} cannot export {named}: {first_line(why)}") from error


def culprit(module: nn.Module, images: Tensor, exporter: Exporter) -> tuple[str, Exception] | None:
    """The innermost module that cannot be exported by itself, and why; None where every one can."""
    tried: set[str] = set()
    for name, (part, arguments) in _calls(module, images).items():  # inner modules return before the outer ones
        shown = f"{part!r}{[tuple(argument.shape) for argument in arguments]}"
        if not name or shown in tried:
            continue
        tried.add(shown)
        batch = tuple({0: torch.export.Dim.AUTO} if len(each) == len(images) else None for each in arguments)
        try:
            with warnings.catch_warnings(action="ignore"):
                exporter(part.eval(), arguments, dynamic_shapes=batch)
        except Exception as error:
            return name.removeprefix("logits.network."), error
    return None


def _calls(module: nn.Module, images: Tensor) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Every module that is called with tensors alone, and the tensors of its first call, in the order of returning."""
    calls: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {}

    def note(name: str) -> Any:
        def hook(part: nn.Module, arguments: tuple[Any, ...], _: object) -> None:
            if all(isinstance(argument, Tensor) for argument in arguments):
                calls.setdefault(name, (part, arguments))

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules()]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls
