"""Decoding in a process of its own: names of image files on stdin, their pixels on stdout; it imports no torch.

`python -m compress.data.decoding_worker ROOT SIDE`, where every image has SIDE x SIDE pixels and becomes RGB.
"""

import os
import sys
from pathlib import Path

from compress.data.image_decoding import decode, opened, pixels, upright_size
from compress.errors import UsageError, one_line

END = b"\0"  # of a name


def square(path: Path, side: int) -> bytes:
    """Return the pixels of an image file, uint8 ``(3, side, side)``; ``UsageError`` where it has another size."""
    with opened(path) as file:
        if upright_size(file) != (side, side):
            raise UsageError(f"{path} has {'x'.join(map(str, upright_size(file)))} pixels, not {side}x{side}")
        return pixels(decode(file, grey=False)).tobytes()


def main(root: Path, side: int) -> None:
    """Decode the files that stdin names."""
    for name in sys.stdin.buffer.read().split(END)[:-1]:
        sys.stdout.buffer.write(square(root / os.fsdecode(name), side))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except UsageError as error:
        print(one_line(str(error)), file=sys.stderr)
        sys.exit(2)
