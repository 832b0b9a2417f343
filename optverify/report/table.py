"""One table of text in four dresses: Markdown, LaTeX (booktabs), HTML and plain. Knows nothing of what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from optverify.report import latex

LONG = 60
"""Letters of a group's heading from which on LaTeX may break it."""


@dataclass(frozen=True, repr=False)
class Table:
    """Text in rows and columns.

    Parameters
    ----------
    columns : tuple of str
    rows : tuple of tuple of str
    numeric : tuple of bool
        Which columns are set flush right.
    caption : str
    groups : tuple of str
        Heading that each row stands under; empty for none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    caption: str = ""
    groups: tuple[str, ...] = ()

    def _grouped(self) -> list[tuple[str, list[tuple[str, ...]]]]:
        heads = self.groups or ("",) * len(self.rows)
        pairs = groupby(zip(heads, self.rows, strict=True), key=lambda pair: pair[0])
        return [(head, [row for _, row in found]) for head, found in pairs]

    def markdown(self) -> str:
        """Return a table for each group, and the caption."""
        head = [_markdown_row(self.columns), _markdown_row(["---:" if n else "---" for n in self.numeric])]
        parts = []
        for group, rows in self._grouped():
            title = [f"**{_markdown(group)}**", ""] if group else []
            parts.append("\n".join([*title, *head, *(_markdown_row(map(_markdown, row)) for row in rows)]))
        return "\n\n".join([*parts, _markdown(self.caption)] if self.caption else parts)

    def latex(self, label: str = "tab:comparison", cite: Sequence[Sequence[str]] = ()) -> str:
        r"""Return a ``table`` that needs the packages booktabs and graphicx: one wider than the text is scaled down.

        Parameters
        ----------
        label : str
        cite : sequence of sequences of str, one per row, optional
            Keys that the row's first cell cites.
        """
        width = len(self.columns)
        lines, k = [], 0
        for group, rows in self._grouped():
            lines.append(r"\midrule")
            if group:
                # As wide as the text at most, so that a long one is broken and does not make the table wider.
                kind = r"p{\linewidth}" if len(group) > LONG else "l"
                lines.append(rf"\multicolumn{{{width}}}{{@{{}}{kind}@{{}}}}{{\emph{{{latex.escaped(group)}}}}} \\")
            for row in rows:
                cells = [latex.number(c) if n else latex.escaped(c) for c, n in zip(row, self.numeric, strict=True)]
                if cite and cite[k]:
                    cells[0] += rf"~\cite{{{','.join(cite[k])}}}"
                lines.append(" & ".join(cells) + r" \\")
                k += 1
        align = "".join("r" if n else "l" for n in self.numeric)
        head = " & ".join(map(latex.heading, self.columns, align)) + r" \\"
        body = "\n".join(f"    {line}" for line in [r"\toprule", head, *lines, r"\bottomrule"])
        return (
            "\\begin{table}\n  \\centering\n  \\setlength{\\tabcolsep}{4pt}\n"
            f"  \\caption{{{latex.escaped(self.caption)}}}\n  \\label{{{label}}}\n  \\smallskip\n"
            "  \\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
            f"  \\begin{{tabular}}{{@{{}}{align}@{{}}}}\n{body}\n  \\end{{tabular}}}}\n\\end{{table}}"
        )

    def html(self) -> str:
        """Return a table with a caption, scoped headings and a group's heading as a row of its own."""
        align = ["right" if n else "left" for n in self.numeric]
        head = "".join(
            f'<th scope="col" style="text-align:{side}">{escape(c)}</th>'
            for c, side in zip(self.columns, align, strict=True)
        )
        bodies = []
        for group, rows in self._grouped():
            width = len(self.columns)
            title = f'<tr><th scope="rowgroup" colspan="{width}">{escape(group)}</th></tr>' if group else ""
            lines = "".join(_html_row(row, align) for row in rows)
            bodies.append(f"<tbody>{title}{lines}</tbody>")
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"

    def __str__(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return f"<Table: {len(self.rows)} rows of {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        return self.html()


def _html_row(row: Sequence[str], align: Sequence[str]) -> str:
    first = f'<th scope="row" style="text-align:left;font-weight:normal">{escape(row[0])}</th>'
    cells = "".join(
        f'<td style="text-align:{side}">{escape(cell)}</td>' for cell, side in zip(row[1:], align[1:], strict=True)
    )
    return f"<tr>{first}{cells}</tr>"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    for letter in "\\`*_<>|[]":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())
