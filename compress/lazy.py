"""Lazy names: those that a package's stub `__init__.pyi` imports, each imported when it is first used (PEP 562)."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package, whose stub lies beside its `file`."""
    imports = ast.parse(Path(file).with_suffix(".pyi").read_text()).body
    modules = {
        alias.name: f"{package}.{node.module}"
        for node in imports
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(modules[name])
        for known in {name, module.__name__.rpartition(".")[2]} & modules.keys():
            # Found without this function from now on; a module takes the place of a name that it shares.
            setattr(sys.modules[package], known, getattr(module, known))
        return getattr(module, name)

    return get, lambda: sorted(modules), sorted(modules)
