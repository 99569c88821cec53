"""The user's cache: what is kept there can be had again."""

import os
from pathlib import Path

from compress.home import homeless, own_place


def cache_directory() -> Path:
    """Return the directory, which may not exist yet."""
    home = own_place() if homeless() else Path.home()
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "multiway-compress"
