"""Lazy names: each is imported when it is used, and a module never takes the place of a name that it shares."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import parcel
assert sorted(parcel.__all__) == dir(parcel) == ["Other", "thing"]
assert "parcel.thing" not in sys.modules
parcel.Other
assert parcel.thing() == "called"  # not the module parcel.thing, which importing Other has bound
print(parcel.nothing)
"""


def test_names_are_imported_at_first_use(tmp_path: Path) -> None:
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from compress.lazy import attach_stub\n__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)\n"
    )
    (package / "__init__.pyi").write_text("from .thing import Other, thing\n")
    (package / "thing.py").write_text("Other = 1\n\ndef thing():\n    return 'called'\n")
    here = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=here)
    assert "AttributeError: module 'parcel' has no attribute 'nothing'" in done.stderr
