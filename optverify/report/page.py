"""A page that stands alone: semantic HTML, styles within, no scripts and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from optverify.report.html import COLOURS
from optverify.report.table import Table

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load: nothing, whatever a file name or an operator's name contains."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.55 system-ui, sans-serif; }
h1, p, li { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #767676; padding-bottom: .2rem; }
p, li { max-width: 46rem; }
.badge { color: #fff; border-radius: .25rem; padding: .1rem .6rem; font-weight: 700; }
.statement { font-size: 1.1rem; border-left: .3rem solid #1a1a1a; padding-left: .8rem; }
.wide { overflow-x: auto; margin: .5rem 0; }
.wide td { white-space: nowrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #404040; padding-bottom: .5rem; caption-side: top; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top; }
thead th { font-weight: 600; border-bottom: 1px solid #1a1a1a; vertical-align: bottom; min-width: 4.5rem; }
tbody tr { border-bottom: 1px solid #dcdcdc; }
th[scope=rowgroup] { padding-top: .9rem; font-weight: 600; }
.facts { display: grid; grid-template-columns: fit-content(16rem) 1fr; margin: .5rem 0; }
.facts dt, .facts dd { padding: .25rem .7rem .25rem 0; margin: 0; border-bottom: 1px solid #dcdcdc; }
.facts dt { font-weight: 600; min-width: 9rem; }
.facts dd { overflow-wrap: anywhere; }
pre { background: #f2f2f2; padding: .7rem; white-space: pre-wrap; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure svg { width: 100%; min-width: 34rem; max-width: 44rem; height: auto; }
figcaption { color: #404040; }
a { color: #00458f; }
:focus-visible { outline: 3px solid #00458f; outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { position: static; }
footer { margin-top: 2.5rem; color: #404040; font-size: .9rem; }
@media (max-width: 40rem) {
  .facts { grid-template-columns: 1fr; }
  .facts dt { border: none; padding-bottom: 0; }
  .facts dd { padding-top: 0; }
}
@media print { body { max-width: none; } .wide { overflow: visible; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, as HTML that the functions of this module made."""

    heading: str
    html: str


def page(title: str, sections: Sequence[Section], *, badge: str = "", footer: str = "") -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
    sections : sequence of Section
    badge : str
        A verdict, shown before the title.
    footer : str
    """
    colour = COLOURS.get(badge, "#444444")
    mark = f'<span class="badge" style="background:{colour}">{escape(badge.upper())}</span> ' if badge else ""
    links = "".join(f'<li><a href="#s{k}">{escape(s.heading)}</a></li>' for k, s in enumerate(sections))
    body = "".join(
        f'<section aria-labelledby="s{k}"><h2 id="s{k}">{escape(s.heading)}</h2>{s.html}</section>'
        for k, s in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f'<body><a class="skip" href="#main">Skip to the content</a><header><h1>{mark}{escape(title)}</h1>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main id="main">{body}</main>'
        f"<footer><p>{escape(footer)}</p></footer></body></html>\n"
    )


def paragraph(text: str, *, statement: bool = False) -> str:
    """Return a paragraph; a statement is set off."""
    return f'<p class="statement">{escape(text)}</p>' if statement else f"<p>{escape(text)}</p>"


def items(texts: Sequence[str]) -> str:
    """Return a list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def commands(lines: Sequence[str]) -> str:
    """Return lines to be typed."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def facts(rows: Mapping[str, str]) -> str:
    """Return labels and texts."""
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    return f'<dl class="facts">{lines}</dl>'


def wide(table: Table, label: str) -> str:
    """Return a table that scrolls by itself, by keyboard too, where the window is narrow."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">{table.html()}</div>'


def figure(svg: str, caption: str) -> str:
    """Return a figure of an SVG that describes itself."""
    inner = f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">{svg}</div>'
    return f"<figure>{inner}<figcaption>{escape(caption)}</figcaption></figure>"
