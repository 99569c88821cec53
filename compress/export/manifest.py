"""The manifest of a bundle, `bundle.json`, whose digests the bundle's files must have; needs Python alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "bundle.json"
ADAPTABLE = (".py", ".md")  # suffixes of the scripts and the model card


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle: its model, and all that is read beside it, are the files that were exported.

    The scripts and the model card may be adapted.

    Raises:
        ValueError: a file is missing, damaged or was changed; the message names it.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        check_files(
            folder, {name: digest for name, digest in manifest["files"].items() if not name.endswith(ADAPTABLE)}
        )
    except FileNotFoundError as error:
        raise ValueError(f"bundle {folder}: {Path(error.filename).name} is missing there") from error
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"bundle {folder}: {MANIFEST} is damaged") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"bundle {folder}: {error}") from error
    return manifest


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Check that files, by name, have their digests.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one was changed, or is named elsewhere than in the folder.
    """
    for name, digest in digests.items():
        if Path(name).name != name or digest_of(folder / name) != digest:
            raise ValueError(f"{name} is not the file that was exported (its SHA-256 differs)")


def digest_of(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
