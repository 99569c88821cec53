"""The user's home, which not every user has: a number without an account in a container has none."""

import getpass
import os
import tempfile
from pathlib import Path


def settle() -> None:
    """Give the libraries of this process a name and a place where the user has none.

    torch and matplotlib keep files at home, and fail, or complain on stderr, where there is none that can be written.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())
    if homeless() or not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ.setdefault("MPLCONFIGDIR", str(own_place()))
    if homeless():
        os.environ["HOME"] = str(own_place())


def homeless() -> bool:
    """Whether neither $HOME nor an account says where home is."""
    return os.path.expanduser("~") == "~"


def own_place() -> Path:
    """A directory for temporary files that is this user's, the same every time unless somebody else took its name."""
    place = Path(tempfile.gettempdir()) / f"multiway-compress-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    return place if place.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix=f"{place.name}-"))
