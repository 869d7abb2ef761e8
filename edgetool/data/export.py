"""Test images as files, so that a person can look at what a device is given.

`python -m edgetool.data.export fashion_mnist --number 10 --out images/` writes PGM files (any viewer opens them,
and the device core reads them without further packages), named by their number and their true label.
"""

import argparse
from pathlib import Path

import numpy as np

from edgetool.data.fashion_mnist import LABELS, load_arrays


def export_fashion_mnist(number: int, out: Path) -> list[Path]:
    """Write the first `number` test images of Fashion-MNIST; returns the files, [28, 28] grey values each."""
    _, _, images, labels = load_arrays()
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for index in range(number):
        name = LABELS[labels[index]].lower().replace("/", "-").replace(" ", "-")
        path = out / f"{index:02d}-{name}.pgm"
        height, width = images[index].shape
        path.write_bytes(f"P5 {width} {height} 255\n".encode() + np.ascontiguousarray(images[index]).tobytes())
        written.append(path)
    return written


def main() -> None:
    """Run from the command line; prints the files written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("fashion_mnist",))
    parser.add_argument("--number", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print("\n".join(map(str, export_fashion_mnist(arguments.number, arguments.out))))


if __name__ == "__main__":
    main()
