"""The command, which kills itself at a file operation: OPERATION FILE TIME ARGUMENTS...

At the TIME-th call of `pathlib.Path`'s method of that name, or of `shutil.rmtree`, on a file whose name has FILE in it.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from compress.cli.app import main

if __name__ == "__main__":
    operation, name, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    owner: Any = shutil if operation == "rmtree" else Path
    original = getattr(owner, operation)

    def fatal(path: Path, *arguments: Any, **options: Any) -> Any:
        """The operation, but for the last time."""
        global times
        times -= name in path.name
        if not times:
            os._exit(9)
        return original(path, *arguments, **options)

    setattr(owner, operation, fatal)
    sys.exit(main(sys.argv[4:]))
