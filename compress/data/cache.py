"""The user's cache: what is kept there can be had again."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return the directory, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "multiway-compress"
