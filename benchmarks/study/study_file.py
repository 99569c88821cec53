"""The file of a study: a bundled one by its name, or one of the user's own; found without importing torch."""

from importlib.resources import files
from pathlib import Path

from compress.documents import read_file
from compress.errors import UsageError, nearest

BUNDLED = files("benchmarks") / "study" / "bundled"


def study_text(name: str) -> bytes:
    """Return the TOML text of a study.

    Raises:
        UsageError: there is no bundled study and no file of this name, or the file cannot be read.
    """
    bundled = sorted(file.name.removesuffix(".toml") for file in BUNDLED.iterdir() if file.name.endswith(".toml"))
    try:
        return (BUNDLED / f"{name}.toml").read_bytes() if name in bundled else read_file(Path(name))
    except FileNotFoundError as error:
        raise UsageError(f"study {name!r} is neither a bundled study nor a file; {nearest(name, bundled)}") from error
    except ValueError as error:
        raise UsageError(f"study {name!r} cannot be read: {error}; bundled are {', '.join(bundled)}") from error
