"""Radii of digit readers: the brackets of `optverify.radius` beside HiGHS on the minimum-distortion program.

``python -m benchmarks.radius`` trains a 64-20-20-10 reader of scikit-learn's 8 x 8 digits and takes test digits that it
reads. Each radius is bracketed to a gap of 1e-4, its lower end written as a certificate and checked again from the
file, its upper end replayed exactly; beside it, in the same process, HiGHS minimises the distortion by the big-M
program of each other class, cut off by the best class so far (``optverify.measures.distortion``). Processor time of
both; one thread.

``--network large`` does so for a 784-32-10 reader. No package that we use ships 28 x 28 digits: these are the same
digits, enlarged by linear interpolation. ``--onnx FILE --images FILE.npz`` takes a given classifier and images (N, n)
in 0..255 with their labels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optverify import Network, Query, load, load_property, radius
from optverify.certificate import check_file
from optverify.errors import CertificateError
from optverify.interval import Array
from optverify.measures.distortion import minimum_distortion
from optverify.measures.question import Question, as_domain, as_point
from optverify.measures.radius import proof_files
from optverify.norms import length, norm_of

SIDE = 28

Digits = tuple[Array, NDArray[np.int64]]

HIDDEN = {"digits": (20, 20), "large": (32,)}


def digits(seed: int = 0) -> tuple[Digits, Digits]:
    """Return training and test digits, (N, 64) in [0, 1], and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    images, labels = found.data[order] / 16.0, found.target[order].astype(np.int64)
    return (images[:1400], labels[:1400]), (images[1400:], labels[1400:])


def enlarged(images: Array) -> Array:
    """Enlarge 8 x 8 images to 28 x 28 by linear interpolation."""
    place = np.clip((np.arange(SIDE) + 0.5) * 8 / SIDE - 0.5, 0.0, 7.0)
    left = np.minimum(place.astype(int), 6)
    spread = np.zeros((SIDE, 8))
    spread[np.arange(SIDE), left] = 1.0 - (place - left)
    spread[np.arange(SIDE), left + 1] += place - left
    return np.asarray(np.einsum("ai,kij,bj->kab", spread, images.reshape(-1, 8, 8), spread).reshape(len(images), -1))


def reader(name: str) -> tuple[Network, Digits]:
    """Train a reader; return it with test digits."""
    from torch import nn

    from examples.training import fit

    (images, labels), (test, wanted) = digits()
    if name == "large":
        images, test = enlarged(images), enlarged(test)
    n = images.shape[1]
    fitted = fit(
        images,
        np.eye(10)[labels],
        HIDDEN[name],
        mean=[0.0] * n,
        scale=[1.0] * n,
        loss=nn.functional.cross_entropy,
        epochs=100,
        batch=64,
    )
    network = Network.from_arrays(fitted.layers)
    right = network(test).argmax(axis=1) == wanted
    print(f"# {name}: {n}-{'-'.join(map(str, HIDDEN[name]))}-10, reads {right.mean():.1%} of {len(test)} new digits")
    return network, (test, wanted)


def measured(
    network: Network, x: Array, label: int, norm: str, limit: float, folder: str, by_milp: bool
) -> tuple[float, float]:
    """Print a line about one image; return the CPU seconds of ours and of HiGHS."""
    began = time.process_time()
    path = str(Path(folder, "proof"))
    answer = radius(network, x, label, norm=norm_of(norm), time_limit=limit, certificate=path)
    ours = time.process_time() - began
    checked = "checked" if answer.certified and _checked(network, *proof_files(path, norm_of(norm))) else "NOT CHECKED"
    claim, theirs = "", 0.0
    if by_milp and norm != "2":
        point = as_point(network, x.tolist())
        query = Query.robust(as_domain((0, 1), point), label, network.n_outputs)
        began = time.process_time()
        least, _ = minimum_distortion(Question(network, point, norm_of(norm), query), time_limit=limit)
        theirs = time.process_time() - began
        claim = f"HiGHS {'none in time' if least is None else format(least, '.8f')} {theirs:8.2f} s"
    replayed = answer.witness is not None and _replayed(network, x, label, answer.upper, norm, answer.witness.x)
    print(
        f"[{answer.lower:.8f}, {answer.upper:.8f}] gap {answer.gap:.1e} {'closed' if answer.complete else 'open'}"
        f" {checked} {'replayed' if replayed else 'NOT REPLAYED'} {answer.nodes:6d} nodes {ours:6.2f} s  {claim}",
        flush=True,
    )
    return ours, theirs


def _checked(network: Network, certificate: str, about: str) -> bool:
    try:
        return check_file(certificate, network, load_property(about)).kind == "verified"
    except (CertificateError, OSError):
        return False


def _replayed(network: Network, x: Array, label: int, upper: float, norm: str, point: tuple[Fraction, ...]) -> bool:
    y = network.exact(point)
    away = [a - Fraction(b) for a, b in zip(point, x.tolist(), strict=True)]
    return max(v for j, v in enumerate(y) if j != label) >= y[label] and length(norm_of(norm), away) <= upper


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--network", choices=list(HIDDEN), default="digits")
    parser.add_argument("--onnx", help="a classifier of images instead")
    parser.add_argument("--images", help="its images: .npz with `images` and `labels`")
    parser.add_argument("--inputs", type=int, default=50)
    parser.add_argument("--norm", default="inf")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each radius and method")
    parser.add_argument("--no-milp", action="store_true")
    options = parser.parse_args()
    if options.onnx:
        network = load(options.onnx)
        with np.load(options.images) as file:
            images, labels = file["images"] / 255.0, file["labels"].astype(np.int64)
    else:
        network, (images, labels) = reader(options.network)
    right = np.flatnonzero(network(images).argmax(axis=1) == labels)[: options.inputs]
    totals = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        for k in right.tolist():
            print(f"{k:4d}", end=" ")
            seconds = measured(
                network, images[k], int(labels[k]), options.norm, options.limit, folder, not options.no_milp
            )
            totals = [a + b for a, b in zip(totals, seconds, strict=True)]
    print(f"# {len(right)} radii: optverify {totals[0]:.1f} CPU s with certificates, HiGHS {totals[1]:.1f} CPU s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
