"""Reports as pages to keep, send and print: what was proved, under which assumptions, and how to check it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from optverify import tables
from optverify.errors import require
from optverify.network import Network
from optverify.plots import plot_bounds, plot_gaps, plot_trace, svg
from optverify.query import Query
from optverify.report import text
from optverify.report.page import Section, commands, facts, figure, items, page, paragraph, wide
from optverify.results import Verdict, Verification
from optverify.search.tree import Progress
from optverify.semantics import REAL, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

MOST_INPUTS = 12
"""Inputs of a region that are listed one by one."""

EXACT = "The arithmetic is exact, over the real numbers, with the weights in the file. Programs that round may differ."

ASSUMPTIONS = (
    "The property file says what is meant: it lists what must not happen.",
    "The reader turns the files into the network and the property correctly; their digests are below.",
    "The processor follows IEEE 754 in double precision. A certificate that the kernel accepts does not need this.",
)


def verification_page(
    answer: Verification,
    network: Network,
    query: Query,
    *,
    trace: Sequence[Progress] = (),
    files: Mapping[str, str] | None = None,
) -> str:
    """Return the report of one verification as a page of HTML that needs nothing else.

    Parameters
    ----------
    answer : Verification
    network : Network
    query : Query
    trace : sequence of Progress
        What the search reported: a figure, if there is something to see.
    files : mapping
        Names of ``network``, ``property`` and ``certificate``, for the commands that check it again.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    files = files or {}
    sections = [
        Section(
            "Statement",
            paragraph(_statement(answer, query), statement=True)
            + paragraph(f"{answer.reason[:1].upper()}{answer.reason[1:]}."),
        ),
        Section("Assumptions", items(_assumptions(answer))),
        Section("Property", facts(_property(query))),
        Section("Bounds and claims", facts(_bounds(answer)) + paragraph(_BOUND)),
    ]
    point = answer.witness or answer.near_miss
    if point is not None:
        rows = {"x": ", ".join(map(text.exact, point.x_float())), "y": ", ".join(map(text.number, point.y_float()))}
        if point.execution:
            rows["execution"] = point.execution
        rows |= {f"replayed in {entry.runtime}": str(entry) for entry in answer.replay}
        sections.append(Section("Counterexample" if answer.witness else "Near miss, not a counterexample", facts(rows)))
    share = f"{math.floor(1000 * answer.closed) / 10} %"
    tree = {"nodes": str(answer.nodes), "linear programs": str(answer.programs), "closed": share}
    tree |= {"elapsed": f"{answer.seconds:.2f} s", "processor time": f"{answer.cpu_seconds:.2f} s"}
    if answer.peak_mib is not None:
        tree["memory"] = f"{answer.peak_mib:.0f} MiB at most"
    picture = ""
    if any(math.isfinite(p.lower) for p in trace):
        words = "Proved bound and best point during the search"
        picture = _drawn(plot_trace(trace), words, f"{words}: from {trace[0].lower:.4g} to {trace[-1].lower:.4g}.")
    sections.append(Section("Search", facts(tree) + picture))
    sections.append(Section("How to check it again", _recheck(answer, files)))
    identity = {"network": answer.network, "property": answer.query, "network layers": repr(network)}
    sections.append(Section("Digests and versions", facts(identity | dict(answer.versions))))
    return page(answer.claim_text or "Property", sections, badge=answer.verdict.value, footer=_FOOTER)


def comparison_page(table: DataFrame, title: str = "Methods compared", command: str = "") -> str:
    """Return the report of a comparison as a page of HTML that needs nothing else.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`optverify.compare`.
    title : str
    command : str
        What made it, for those who want to make it again.

    Raises
    ------
    MissingExtra
        matplotlib is not installed.
    """
    shown, totals = tables.summary(table), tables.totals(table)
    sections = [
        Section("What the numbers mean", paragraph(tables.caption(table)) + paragraph(_BOUND)),
        Section("By method", wide(replace(totals, caption=""), "Totals by method")),
    ]
    pictures = []
    for draw, words in (
        (plot_bounds, "Rigorous bounds by method, and the exact or best attained value as a line"),
        (plot_gaps, "Gap to the best value attained against time, medians by method"),
    ):
        pictures.append(_drawn(draw(table), words, f"{words}. The numbers are in the tables."))
    sections.append(Section("Figures", "".join(pictures)))
    sections.append(Section("All rows", wide(replace(shown, caption=""), "All rows")))
    failed = table[~table.status.isin(tables.ENDED)]
    if len(failed):
        words_of = {f"{k}: {row.method}": f"{row.status}: {row.reason}" for k, row in failed.iterrows()}
        sections.append(Section("Rows that did not come to an end", facts(words_of)))
    again = commands([command]) if command else paragraph("By optverify.compare with the same arguments.")
    sections.append(Section("How to make it again", again))
    digests = {f"network {k}": digest for k, digest in enumerate(dict.fromkeys(table.network_sha256))}
    sections.append(Section("Digests", facts(digests)))
    sections.append(Section("Sources", commands([tables.sources(table)])))
    return page(title, sections, footer=_FOOTER)


_BOUND = (
    "A bound is a theorem: it was computed with outward rounding, from multipliers that anyone may propose. A claim is "
    "what a solver says; it is shown for comparison and proves nothing."
)
_FOOTER = "Written by optverify. This page loads nothing and runs nothing."


def _statement(answer: Verification, query: Query) -> str:
    count = len(query.cases)
    cases = "the unsafe case" if count == 1 else f"any of the {count} unsafe cases"
    real = answer.semantics == REAL.name
    if answer.verdict is Verdict.VERIFIED:
        about = "over the reals: no input" if real else f"for every execution in {answer.semantics}: no input"
        return f"Proved, {about} of the region reaches {cases}. The property: {answer.claim_text}."
    if answer.verdict is Verdict.FALSIFIED:
        about = "in exact arithmetic" if real else f"by an execution in {answer.semantics}"
        return f"Refuted, {about}: the point below reaches an unsafe case. The property: {answer.claim_text}."
    return f"Neither proved nor refuted: {answer.claim_text}"


def _assumptions(answer: Verification) -> list[str]:
    if answer.semantics == REAL.name:
        return [EXACT, *ASSUMPTIONS]
    statement = named(answer.semantics).statement
    return [f"The program that is deployed is an execution as in {statement}.", *ASSUMPTIONS]


def _property(query: Query) -> dict[str, str]:
    rows = {}
    for k, case in enumerate(query.cases[:MOST_INPUTS]):
        sides = list(zip(case.region.lower, case.region.upper, strict=True))
        ends = [f"{text.rational(a)} <= X_{i} <= {text.rational(b)}" for i, (a, b) in enumerate(sides[:MOST_INPUTS])]
        region = ", ".join(ends) + (f", and {len(sides) - MOST_INPUTS} more" if len(sides) > MOST_INPUTS else "")
        unsafe = " and ".join(f"({atom})" for atom in case.unsafe) or "everywhere"
        rows[f"case {k}"] = f"{region}; unsafe: {unsafe}"
    if len(query.cases) > MOST_INPUTS:
        rows["further cases"] = str(len(query.cases) - MOST_INPUTS)
    return rows


def _bounds(answer: Verification) -> dict[str, str]:
    rows = {"bound (proved)": text.rounded_down(answer.bound), "claim (solver)": text.number(answer.claim)}
    if answer.gap is not None:
        rows["claim minus bound"] = text.number(answer.gap)
    return rows | {"semantics": named(answer.semantics).statement, "solver": answer.solver or "none"}


def _recheck(answer: Verification, files: Mapping[str, str]) -> str:
    network, prop = shlex.quote(files.get("network", "NET")), shlex.quote(files.get("property", "PROP"))
    certificate = files.get("certificate")
    if answer.certificate is None or certificate is None:
        words = "No certificate was written. This one writes a proof, or the counterexample, and checks it:"
        asked = "" if answer.semantics == REAL.name else f" --semantics {answer.semantics}"
        return paragraph(words) + commands([f"optverify verify {network} {prop}{asked} --certificate FILE"])
    figures = asdict(answer.certificate).items()
    sizes = {name.replace("_", " "): f"{v:.2f}" if isinstance(v, float) else str(v) for name, v in figures}
    words = (
        "The certificate was accepted when it was written. By the fast checker, then by the kernel in exact integers:"
    )
    check = f"optverify check {shlex.quote(certificate)} --network {network} --property {prop}"
    return paragraph(words) + commands([check, f"{check} --exact"]) + facts(sizes)


def _drawn(ax: Axes, words: str, description: str) -> str:
    """Turn a figure into a part of a page, and close it."""
    html = figure(svg(ax, description), words)
    require("matplotlib.pyplot", "plots").close(ax.get_figure(root=True))
    return html
