"""Small static HTML for notebooks: escaped, no scripts, no outside assets.

Knows nothing of the objects that it shows: they hand over titles and rows of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

COLOURS = {"verified": "#1b6e3c", "falsified": "#a3261b", "unknown": "#6b5200"}
"""Background of a verdict's badge; white text on each has a contrast above 5.5 to 1."""


def card(title: str, rows: Mapping[str, str], badge: str = "", details: Mapping[str, str] | None = None) -> str:
    """Return a table with a title, and further rows that unfold.

    Parameters
    ----------
    title : str
    rows, details : mappings from label to text
    badge : str, optional
        A verdict shown before the title.
    """
    colour = COLOURS.get(badge, "#444444")
    style = f"background:{colour};color:#fff;border-radius:3px;padding:1px 6px;margin-right:8px"
    head = f'<span style="{style}">{escape(badge.upper())}</span>' if badge else ""
    unfold = f"<details><summary>details</summary>{_table(details)}</details>" if details else ""
    return f'<div style="line-height:1.4"><div>{head}<b>{escape(title)}</b></div>{_table(rows)}{unfold}</div>'


def _table(rows: Mapping[str, str]) -> str:
    cell = "text-align:left;vertical-align:top;padding:1px 12px 1px 0;border:none"
    lines = (
        f'<tr><th scope="row" style="{cell};font-weight:600">{escape(label)}</th>'
        f'<td style="{cell};overflow-wrap:anywhere">{escape(text)}</td></tr>'
        for label, text in rows.items()
    )
    return f'<table style="border:none;border-collapse:collapse">{"".join(lines)}</table>'
