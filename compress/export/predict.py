"""Label image files by the model beside this file; needs Pillow, numpy, and the runtime of the model's format."""

import argparse
import signal
import sys

try:
    from image_reader import image_files, read_image  # type: ignore[import-not-found]
    from model_runner import open_bundle  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    if error.name not in ("PIL", "numpy"):
        raise
    print(f"{error.name} is not installed: pip install {error.name.replace('PIL', 'pillow')}", file=sys.stderr)
    sys.exit(2)


def main() -> int:
    """Print path, label, probability and exit of every image; return 1 where a file was unreadable, otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", help="image files, and folders of them")
    paths, failed = parser.parse_args().paths, False
    labels, rules, model = open_bundle()
    if hasattr(signal, "SIGPIPE"):  # Windows has none
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly where nobody reads on, as `| head`
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]  # names keep their bytes
    for path in image_files(paths):
        try:
            image = read_image(path, rules)  # uint8 (C, H, W)
        except ValueError as error:
            print(f"{path} cannot be read: {error}", file=sys.stderr)
            failed = True
            continue
        [label], [probabilities], [exit] = model(image[None])
        print(path, labels[label], f"{probabilities[label]:.4f}", exit, sep="\t")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
