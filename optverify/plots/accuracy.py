"""The curve of certified accuracy: what is proved, what is refuted, and what is open between."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optverify.certify import CertifiedAccuracy
from optverify.errors import require
from optverify.io.files import expect_ending, replacing
from optverify.plots.style import axes, drawable, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".svg", ".pdf", ".png")


def plot_accuracy(answer: CertifiedAccuracy, ax: Axes | None = None) -> Axes:
    """Draw certified and empirical robust accuracy against eps; the truth lies between the two lines.

    Parameters
    ----------
    answer : CertifiedAccuracy
        From :func:`optverify.certify`. With ``radius=True`` the lines step at the ends of the brackets; else at the
        radii that were asked about, between which a proof counts to the left and a counterexample to the right.
    ax : matplotlib Axes, optional
    """
    ax = axes(ax)
    n = answer.inputs
    if answer.brackets:
        ends = [(0.0, inf) if bracket is None else bracket for bracket in answer.brackets]
        eps = np.unique([0.0, *(end for bracket in ends for end in bracket if drawable(end))])
        proved = [answer.correct, *(sum(lower >= x for lower, _ in ends) for x in eps[1:])]
        robust = [sum(upper > x for _, upper in ends) for x in eps]
        proofs = counterexamples = eps
    else:
        counterexamples = np.array([level.eps for level in answer.levels])
        proofs = np.append(0.0, counterexamples)
        proved = [answer.correct, *(level.certified for level in answer.levels)]
        robust = [n - level.falsified for level in answer.levels]
    ax.step(proofs, np.divide(proved, n), where="pre", color="#0072b2", marker=".", label="certified")
    ax.step(
        counterexamples,
        np.divide(robust, n),
        where="post",
        color="#d55e00",
        linestyle="--",
        marker="x",
        label="no counterexample",
    )
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("eps, l-inf")
    ax.set_ylabel("share of inputs")
    ax.legend(frameon=False, fontsize="small")
    return tidy(ax)


def check_figure(path: str) -> None:
    """Refuse before the work what :func:`write_figure` could not write after it.

    Raises
    ------
    InputError
        The ending is unknown.
    MissingExtra
    """
    expect_ending(path, ENDINGS, "figure")
    require("matplotlib", "plots").use("Agg")


def write_figure(answer: CertifiedAccuracy, path: str) -> None:
    """Write the curve as SVG, PDF or PNG, by the ending of the name; the file appears whole or not at all.

    Raises
    ------
    InputError, MissingExtra, OutputError
    """
    check_figure(path)
    figure = plot_accuracy(answer).get_figure(root=True)
    assert figure is not None
    with replacing(path) as stream:
        figure.savefig(stream, format=Path(path).suffix[1:])
    require("matplotlib.pyplot", "plots").close(figure)
