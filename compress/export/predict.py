"""Label image files by the model beside this file; needs Pillow, numpy, and the runtime of the model's format."""

import argparse
import json
import sys
from pathlib import Path

from image_reader import image_files, read_image  # type: ignore[import-not-found]
from model_runner import open_bundle  # type: ignore[import-not-found]


def main() -> int:
    """Print path, label, probability and exit of every image; return 1 where a file was unreadable, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="image files, and folders of them")
    paths, here, failed = parser.parse_args().paths, Path(__file__).resolve().parent, 0
    names, rules = (json.loads((here / name).read_text("utf-8")) for name in ("labels.json", "preprocess.json"))
    model = open_bundle(here)
    for path in image_files(paths):
        try:
            image = read_image(path, rules)  # uint8 (C, H, W)
        except ValueError as error:
            print(f"{path} cannot be read: {error}", file=sys.stderr)
            failed += 1
            continue
        [label], [probabilities], [exit] = model(image[None])
        print(path, names[label], f"{probabilities[label]:.4f}", exit, sep="\t")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
