"""How figures look: readable in grey and by colour-blind readers, as marks and dashes tell apart what colours do."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from optverify.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Mark:
    """Colour, marker and dash of a method."""

    colour: str
    marker: str
    dash: str


# The palette of Okabe and Ito (2008), darkest first where it matters; no two methods share marker and dash.
STYLES: Mapping[str, Mark] = {
    "interval": Mark("#999999", "v", ":"),
    "crown": Mark("#56b4e9", "s", "-."),
    "alpha-crown": Mark("#0072b2", "D", "--"),
    "triangle": Mark("#e69f00", "^", "-"),
    "triangle+tightened": Mark("#d55e00", "P", "-."),
    "lifted": Mark("#cc79a7", "o", "--"),
    "lifted+cuts": Mark("#8a3f6b", "X", "-"),
    "bigm": Mark("#009e73", "<", ":"),
    "exact": Mark("#000000", "*", "-"),
}

OTHERS = (Mark("#555555", "h", "-"), Mark("#888888", "d", "--"), Mark("#333333", ">", "-."), Mark("#bbbbbb", "p", ":"))


def style_of(method: str, position: int = 0) -> Mark:
    """Return the mark of a method; others take turns."""
    return STYLES.get(method, OTHERS[position % len(OTHERS)])


def axes(ax: Axes | None) -> Axes:
    """Return the given axes, or new ones of a new figure.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    if ax is not None:
        return ax
    plt = require("matplotlib.pyplot", "plots")
    made: Axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")[1]
    return made


def drawable(values: Any) -> Any:
    """Tell which numbers axes can be laid out for: matplotlib overflows near the ends of the float64 range."""
    return np.abs(np.asarray(values, np.float64)) < 1e100


def tidy(ax: Axes) -> Axes:
    """Take away what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def svg(ax: Axes, description: str) -> str:
    """Return the figure of some axes as inline SVG: an image with a description, text as text, the same each time.

    Parameters
    ----------
    ax : matplotlib Axes
    description : str
        What there is to be seen, for those who do not see it.
    """
    matplotlib = require("matplotlib", "plots")
    stream = io.StringIO()
    figure = ax.get_figure(root=True)
    assert figure is not None
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "optverify"}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Several figures of one page must not share ids.
    salt = "f" + hashlib.sha256(description.encode()).hexdigest()[:8] + "-"
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{salt}", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*pt"', "", head)
    return f'{head} role="img" aria-label="{escape(description)}">{rest}'
