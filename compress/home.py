"""The home directory: a substitute where the user has none, as a user without an account in a container."""

import getpass
import os
import tempfile
from pathlib import Path


def settle() -> None:
    """Set $USER, $HOME and $MPLCONFIGDIR where the user has no name or no home.

    torch and matplotlib keep files in the home directory; they fail, or warn on stderr, where they cannot write there.
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
    """Return whether neither $HOME nor an account says where home is."""
    return os.path.expanduser("~") == "~"


def own_place() -> Path:
    """Return a temporary directory of this user's: the same every time, unless another user owns one of its name."""
    place = Path(tempfile.gettempdir()) / f"multiway-compress-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    return place if place.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix=f"{place.name}-"))
