"""Make the bundled `fashion_mini.npz`: python -m compress.data.make_fashion_mini [FOLDER WITH THE FOUR IDX FILES].

For each class the first 600 training and the first 200 test images of Fashion-MNIST, in the order of the files.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from compress.data.dataset import Part
from compress.data.readers import read_mnist_layout
from compress.data.sets import FASHION_CLASSES


def fashion_mini(folder: Path) -> dict[str, np.ndarray]:
    """Return the uint8 arrays of the bundled file: images ``(N, 28, 28)`` and labels ``(N,)`` of train and test."""
    whole = read_mnist_layout(folder, classes=FASHION_CLASSES)
    arrays = {}
    for part, labelled, count in (("train", whole.train, 600), ("test", whole.test, 200)):
        first = _first_of_each_class(labelled, count)
        arrays[f"{part}_images"] = first.images[:, 0].numpy()
        arrays[f"{part}_labels"] = first.labels.byte().numpy()
    return arrays


def _first_of_each_class(labelled: Part, count: int) -> Part:
    kept = [torch.where(labelled.labels == label)[0][:count] for label in range(len(FASHION_CLASSES))]
    return labelled.subset(torch.cat(kept).sort().values)


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist")
    np.savez_compressed(Path(__file__).with_name("fashion_mini.npz"), allow_pickle=False, **fashion_mini(source))
