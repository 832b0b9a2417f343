"""Printed comparisons: what is printed is proved, is escaped, and can be pasted."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optverify import Box, Query, compare, outputs, tables
from optverify.cli import main
from optverify.report import latex
from optverify.report.sources import ENTRIES, SOURCES, bibtex
from optverify.report.table import Table
from optverify.search.methods import METHODS
from tests.test_compare import BOX, network

EXAMPLES = Path(__file__).parents[1] / "examples"
LATEX = shutil.which("pdflatex")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Compare some methods on two cases; one solver is not there."""
    query = Query.never(BOX, (outputs(2)[0] <= -100) | (outputs(2)[1] >= 100), 2)
    return compare(network(), query, methods=["interval", "triangle", "lifted", "exact"], name="a_b & <c>")


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["min", "max"]))
def test_printed_bounds_are_bounds(value: float, sense: str) -> None:
    """Lower bounds are rounded down, upper ones up."""
    printed = Fraction(tables._outward(value, sense))
    assert printed <= Fraction(value) if sense == "min" else printed >= Fraction(value)


def test_printed_gaps_are_gaps(table: pd.DataFrame) -> None:
    """A gap is an upper limit on what a bound is off by: it is rounded up."""
    shown = tables.summary(table)
    column = shown.columns.index("gap")
    for line, gap in zip(shown.rows, table.gap, strict=True):
        assert line[column] == "-" if np.isnan(gap) else Fraction(line[column]) >= Fraction(gap)
    largest = [Fraction(line[tables.totals(table).columns.index("largest gap")]) for line in tables.totals(table).rows]
    assert max(largest) >= Fraction(table.gap.max())


def test_markdown_and_latex(table: pd.DataFrame) -> None:
    """A line a row under a heading for each case; the caption says what a paper has to."""
    text = tables.rendered(table, "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == len(table) + 2 * 2
    assert len({line.count(" | ") for line in lines}) == 1
    assert "<c>" not in text.replace("\\<c\\>", "")
    latex = tables.rendered(table, "latex", cite=True)
    assert latex.count("\\\\\n") == len(table) + 3  # and the heading, and two of cases
    assert r"a\_b \& \textless{}c\textgreater{}" in latex
    for rule in ("toprule", "midrule", "bottomrule"):
        assert rf"\{rule}" in latex
    for word in ("real", "crown", "highs", "optverify", "cores", "claims"):
        assert word in tables.caption(table)
    keys = set(",".join(re.findall(r"\\cite\{([^}]*)\}", latex)).split(","))
    assert keys == {key for method in set(table.method) for key in SOURCES[method]}
    for key in keys:
        assert f"{{{key}," in tables.sources(table)
    assert "huangfu2018" in tables.sources(table)


ODD = r"a_b & <c> 50% #1 x^2 ~/net C:\nets {z} $5 |" + " '' `q` \"dq\" [x] * -- ,, ?` é ü ǰ ß ∞ ≤ ε Ω ° 日 \x00\x7f"
"""What names of files and instances may hold."""


def structure(latex: str) -> None:
    """Check what every engine wants: ASCII, paired braces and dollars, nested environments, as many cells in each line.

    A small reader of its own, which runs where there is no LaTeX.
    """
    assert set(latex) <= {"\n", *map(chr, range(32, 127))}
    environments, depth, mathematics, cells, width = list[str](), 0, False, 1, None
    for token in re.findall(r"\\(?:begin|end)\{\w+\}|\\(?:[A-Za-z]+|.)|[^\\]", latex, re.DOTALL):
        match = re.fullmatch(r"\\(begin|end)\{(\w+)\}", token)
        if match and match[1] == "begin":
            environments.append(match[2])
        elif match:
            assert environments.pop() == match[2]
        elif token in "{}":
            depth += 1 if token == "{" else -1
            assert depth >= 0
        elif token == "$":
            mathematics = not mathematics
        elif environments and environments.count("tabular") == 1:
            if token == r"\multicolumn":
                cells = width or 0
            elif token == "&":
                cells += 1
            elif token == "\\\\":
                width = width or cells
                assert cells == width
                cells = 1
        assert token != "#"
    assert not environments
    assert depth == 0
    assert not mathematics


def test_latex_is_well_formed(table: pd.DataFrame) -> None:
    """Every table, also with odd names and one line a method, and every letter is escaped."""
    for by_method in (False, True):
        structure(tables.rendered(table.assign(instance=ODD), "latex", by_method=by_method, cite=True))
    assert latex.escaped("\\{}&%$#_~^<>|") == (
        r"\textbackslash{}\{\}\&\%\$\#\_\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"
    )
    assert latex.escaped("ε=0.1, Ärger, naïve, 日, a---b") == (
        r"$\epsilon$=0.1, \"{A}rger, na\"{\i}ve, {[}U+65E5], a-{}-{}-b"
    )
    for value, shown in {
        "1e-05": r"$1 \cdot 10^{-5}$",
        "-inf": r"$-\infty$",
        "-": "--",
        "-0.5": "$-0.5$",
        "nan": "nan",
        "1_0": r"1\_0",
    }.items():
        assert f"a & {shown}" in Table(("", ""), (("a", value),), (False, True)).latex()


@given(st.text(st.characters()))
def test_any_text_is_latex(text: str) -> None:
    """Surrogates, control characters and all."""
    structure(Table(("a", "b c"), ((text, text),), (False, True), text, (text,)).latex())


def test_pdflatex_compiles_tables(table: pd.DataFrame, tmp_path: Path) -> None:
    """No error, nothing wider than the page, no letter missing, every citation found: where there is pdflatex."""
    if os.environ.get("OPTVERIFY_REQUIRE_LATEX"):
        assert LATEX is not None, "install LaTeX: texlive-latex-base and texlive-latex-recommended"
    failed = table.assign(status="unsupported", bound=-np.inf, claim=np.nan, gap=np.inf, instance="")
    named = table.assign(instance=ODD)
    texts = [tables.rendered(named, "latex", by_method=by, cite=True) for by in (False, True)]
    texts += [tables.rendered(failed, "latex"), tables.rendered(failed, "latex", by_method=True)]
    packages = r"\usepackage{booktabs,graphicx}"
    body = "\n".join(texts) + "\n\\bibliographystyle{plain}\\bibliography{sources}"
    document = f"\\documentclass{{article}}{packages}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(document, encoding="ascii")
    (tmp_path / "sources.bib").write_text(tables.sources(named), encoding="utf-8")
    run = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper"]
    for command in [run, ["bibtex", "paper"], run, run] if LATEX else []:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
        assert done.returncode == 0, done.stdout[-2000:]
    logs = [path.read_text(errors="replace") for path in (tmp_path / "paper.log", tmp_path / "paper.blg") if LATEX]
    for log in logs:
        assert not re.search(r"^!|Overfull|Missing character|undefined|Warning--", log, re.MULTILINE), log


def test_csv_and_json_have_all_digits(table: pd.DataFrame) -> None:
    """Both give back every bound to the last bit; JSON is strict."""
    rows = list(csv.DictReader(io.StringIO(tables.rendered(table, "csv"))))
    assert [float(row["bound"]) for row in rows] == table.bound.tolist()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    data = json.loads(tables.rendered(table, "json"), parse_constant=refuse)
    assert [row["bound"] for row in data] == table.bound.tolist()
    assert data[0]["claim"] is None
    assert data[0]["variables"] is None
    assert data[1]["variables"] == table.variables[1]


def test_totals_count(table: pd.DataFrame) -> None:
    """A line a method, with what it proved."""
    shown = tables.totals(table)
    assert [row[0] for row in shown.rows] == ["interval", "triangle", "lifted", "exact"]
    assert shown.rows[-1][1:5] == ("2", "2", "0", "0")
    html = shown.html()
    assert html.count('scope="col"') == len(shown.columns)
    assert html.count('scope="row"') == len(shown.rows)


def test_html_is_escaped(table: pd.DataFrame) -> None:
    """Names of instances cannot be markup."""
    html = tables.summary(table).html()
    assert "a_b &amp; &lt;c&gt;" in html
    assert "<c>" not in html


def test_odd_tables_print() -> None:
    """Infinite bounds, failed rows, maxima, one point."""
    huge = compare(network(), Box([-1e308, 0], [1e308, 0]), ["Y_0"], methods=["interval"], sense="max")
    point = compare(network(), BOX, ["Y_0"], methods=["interval", "bigm"], solvers={"bigm": "scs"})
    for found in (huge, point):
        for form in tables.FORMATS:
            assert tables.rendered(found, form)
        assert tables.totals(found).markdown()
    assert not np.isfinite(huge.bound[0])
    assert "unsupported" in tables.rendered(point, "latex")


def test_every_method_has_a_source() -> None:
    """Entries and keys match."""
    assert set(METHODS) <= set(SOURCES)
    keys = {key for found in SOURCES.values() for key in found}
    assert keys == set(re.findall(r"@\w+\{([^,]+),", ENTRIES))
    assert bibtex(["nothing"]).count("@") == len(SOURCES["safe bounds"])


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compare writes every format, keeps rows, and says with its exit code whether all methods ended."""
    files = [str(EXAMPLES / "cartpole" / name) for name in ("controller.onnx", "leans_right_small.vnnlib")]
    rows, bib, out = (str(tmp_path / name) for name in ("rows.jsonl", "sources.bib", "table.tex"))
    command = ["compare", *files, "--methods", "interval", "triangle", "--resume", rows]
    assert main([*command, "--format", "latex", "--output", out, "--bibtex", bib]) == 0
    assert capsys.readouterr().out == ""
    assert r"~\cite{ehlers2017formal}" in Path(out).read_text()
    assert "@inproceedings{ehlers2017formal" in Path(bib).read_text()
    kept = Path(rows).read_text()
    assert main([*command, "--format", "json"]) == 0
    assert [row["method"] for row in json.loads(capsys.readouterr().out)] == ["interval", "triangle"]
    assert Path(rows).read_text() == kept
    assert main([*command, "--objective", "Y_0", "--sense", "max", "--by-method"]) == 0
    assert "median" in capsys.readouterr().out
    assert main([*command, "--solvers", "magic"]) == 3
    assert "there is no solver" in capsys.readouterr().err
    assert main([*command, "--output", files[0]]) == 3
