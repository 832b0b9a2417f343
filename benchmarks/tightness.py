"""Interval, CROWN, triangle and exact bounds on the examples' controllers and on a reader of drawn digits.

    python -m benchmarks.tightness --rows rows.jsonl > benchmarks/results/tightness.md

The controllers are asked their own properties, the reader of digits (64-30-30-10, trained here; needs PyTorch)
whether the label of the first digits beats every other class, at several radii. A line a method; all start from the
same pre-activation bounds. Rows are kept as they are done: the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.digits import drawn_digits
from optverify import Box, Instance, Network, Query, compare_instances, load, load_property
from optverify.tables import totals

EXAMPLES = Path(__file__).parents[1] / "examples"
METHODS = ("interval", "crown", "triangle", "exact")
RADII = ("0.01", "0.02", "0.05", "0.1")
HIDDEN = (30, 30)


def controllers(folder: Path) -> Iterator[Instance]:
    """Yield a controller with each of its properties."""
    network = load(folder / "controller.onnx")
    for path in sorted(folder.glob("*.vnnlib")):
        yield Instance(network, load_property(path), name=f"{folder.name} {path.stem}")


def digits(count: int) -> Iterator[Instance]:
    """Yield the reader of digits with the first digits that it reads, at each radius."""
    from torch import nn

    from examples.training import fit

    images, labels = drawn_digits(6000, 0)
    loss = nn.functional.cross_entropy
    fitted = fit(images, np.eye(10)[labels], HIDDEN, mean=[0.0] * 64, scale=[1.0] * 64, loss=loss, epochs=20)
    network = Network.from_arrays(fitted.layers)
    images, labels = drawn_digits(1000, 1)
    read = np.flatnonzero(network(images).argmax(axis=1) == labels)[:count]
    for radius in RADII:
        for k in read.tolist():
            query = Query.robust(Box.around(images[k], radius, (0, 1)), int(labels[k]), 10)
            yield Instance(network, query, name=f"digit {k}", tags={"radius": radius})


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--digits", type=int, default=10, help="how many")
    parser.add_argument("--time-limit", type=float, default=10.0, help="for one method on one case")
    parser.add_argument("--only", help="one of the folders of examples, or digits")
    parser.add_argument("--rows", help="keep rows here, and go on with them")
    given = parser.parse_args(arguments)
    names = [folder.name for folder in sorted(EXAMPLES.iterdir()) if (folder / "controller.onnx").exists()]
    for name in names if given.only is None else [given.only]:
        if name != "digits":
            table = compare_instances(
                controllers(EXAMPLES / name), methods=METHODS, time_limit=given.time_limit, resume=given.rows
            )
            print(f"## {name}\n\n{totals(table)}\n", flush=True)
    if given.only in (None, "digits"):
        table = compare_instances(digits(given.digits), methods=METHODS, time_limit=given.time_limit, resume=given.rows)
        for radius, part in table.groupby("radius", sort=False):
            print(f"## digits, radius {radius}\n\n{totals(part)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
