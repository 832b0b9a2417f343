"""Reports as pages: complete, escaped, alone in the world, readable, and what a browser makes of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")

from optverify import Box, Network, Query, bound, compare, outputs, verify
from optverify.cli import main
from optverify.pages import comparison_page, verification_page
from optverify.report.html import COLOURS
from optverify.report.page import POLICY, STYLE
from optverify.search.tree import Progress
from tests.test_compare import BOX, network

EXAMPLES = Path(__file__).parents[1] / "examples"
EVIL = "<img src=x onerror=alert(1)> & \"quotes'"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Outline(HTMLParser):
    """Collect headings, ids, references and roles; check that tags are nested as they should."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)
        assert not self.tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br"):
            self.tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Make a page of each kind, with names that are meant to do harm."""
    net, trace = network(), list[Progress]()
    least = bound(net, BOX, "Y_0").lower
    made = {}
    for threshold in (least - 0.01, least + 0.5):
        query = Query.never(BOX, outputs(2)[0] <= threshold, 2, text=EVIL)
        answer = verify(net, query, progress=trace.append)
        files = {"network": EVIL, "property": "b.vnnlib", "certificate": "c d"}
        made[answer.verdict.value] = verification_page(answer, net, query, trace=trace, files=files)
    table = compare(net, query, methods=["interval", "bigm", "exact"], solvers={"bigm": "scs"}, name=EVIL)
    made["comparison"] = comparison_page(table, EVIL, f"optverify compare {EVIL}")
    return made


def test_pages_are_alone_and_escaped(pages: dict[str, str]) -> None:
    """No scripts, no handlers, nothing loaded, no markup from names; a policy that forbids it all the same."""
    for page in pages.values():
        outline = Outline(page)
        assert not {"script", "img", "iframe", "link", "object", "embed", "form"} & set(outline.seen)
        assert not [name for name, _ in outline.attributes if name.startswith("on")]
        references = [v for name, v in outline.attributes if name in ("href", "src", "xlink:href", "srcset", "action")]
        assert all(v.startswith("#") for v in references)
        ids = [v for name, v in outline.attributes if name == "id"]
        assert len(set(ids)) == len(ids)
        assert {v[1:] for v in references} <= set(ids)
        assert POLICY in page
        assert "url(http" not in page
        assert "@import" not in page


def test_pages_have_an_order_that_can_be_heard(pages: dict[str, str]) -> None:
    """One h1, sections with h2 and names, a language, tables with scoped headings, figures with descriptions."""
    for page in pages.values():
        outline = Outline(page)
        assert outline.seen.count("h1") == 1
        assert outline.seen.count("h2") == outline.seen.count("section") > 4
        assert ("lang", "en") in outline.attributes
        assert outline.seen.count("th") == sum(name == "scope" for name, _ in outline.attributes)
        assert outline.seen.count("svg") == sum(attribute == ("role", "img") for attribute in outline.attributes)
        assert outline.seen.count("figcaption") == outline.seen.count("figure")
        for focus in (":focus-visible", ".skip:focus"):
            assert focus in page


def test_pages_say_what_was_proved(pages: dict[str, str]) -> None:
    """Statement, assumptions, semantics, digests, bounds beside claims, the tree, how to check again."""
    for word in ("Proved, over the reals", "Assumptions", "bound (proved)", "claim (solver)", "nodes", "--certificate"):
        assert word in pages["verified"]
    assert len(re.findall(r"\b[0-9a-f]{64}\b", pages["verified"])) == 2
    assert "Refuted, in exact arithmetic" in pages["falsified"]
    assert "Counterexample" in pages["falsified"]
    for word in ("Rigorous lower bounds", "unsupported", "@article{neumaier2004safe", "How to make it again"):
        assert word in pages["comparison"]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_aa() -> None:
    """At least 4.5 to 1, for all text on its background."""
    texts = re.findall(r"(?<![-\w])color: (#\w+)", STYLE)
    assert len(texts) >= 4
    pairs = [(c, "#f2f2f2") for c in texts if c != "#fff"] + [("#fff", c) for c in (*COLOURS.values(), "#444444")]
    for front, back in pairs:
        light, dark = sorted((luminance(front), luminance(back)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


def test_a_browser_lays_pages_out(pages: dict[str, str], tmp_path: Path) -> None:
    """In Chromium, without a network: no wider than a narrow or a wide window, nothing runs, everything is there."""
    if os.environ.get("OPTVERIFY_REQUIRE_BROWSER"):
        assert BROWSER is not None, "install Chromium"
    names = list(pages) if BROWSER else []
    widths = (390, 1280)
    measure = """<script>addEventListener("load", () => {
      document.title = [...document.querySelectorAll("iframe")].map(frame => {
        const root = frame.contentDocument.documentElement;
        return [root.scrollWidth, root.querySelectorAll("section").length, root.querySelectorAll("img").length];
      }).join(" ");
    })</script>"""
    for name in names[-2:]:
        page = pages[name]
        frames = "".join(f'<iframe style="width:{width}px" srcdoc="{escape(page)}"></iframe>' for width in widths)
        path = tmp_path / f"{name}.html"
        path.write_text(f"<!DOCTYPE html><title></title>{frames}{measure}", encoding="utf-8")
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        title = re.search(r"<title>(.+)</title>", done.stdout)
        assert title is not None, done.stdout[:500]
        found = [[int(number) for number in part.split(",")] for part in title.group(1).split()]
        assert len(found) == len(widths)
        for (needed, sections, images), width in zip(found, widths, strict=True):
            assert 0 < needed <= width
            assert sections == page.count("<section")
            assert images == 0


def test_the_command_line_writes_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--report` of both commands; a file that cannot be written is an error before the work."""
    files = [str(EXAMPLES / "cartpole" / name) for name in ("controller.onnx", "leans_right_small.vnnlib")]
    report, certificate = str(tmp_path / "report.html"), str(tmp_path / "it's a proof")
    assert main(["verify", *files, "--report", report, "--certificate", certificate]) == 0
    page = Path(report).read_text(encoding="utf-8")
    assert "optverify check" in page
    assert "Proved" in page
    assert main(["compare", *files, "--methods", "interval", "crown", "--report", report]) == 0
    assert "--methods interval crown" in Path(report).read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["verify", *files, "--report", str(tmp_path / "no" / "report.html")]) == 3
    assert "cannot write" in capsys.readouterr().err
    assert main(["verify", *files, "--report", files[1]]) == 3


def test_a_page_about_floats_says_so() -> None:
    """Neither the statement nor the assumptions of a proof about executions speak of the reals."""
    network = Network.from_arrays([([[1.0]], [0.0])])
    query = Query.always(Box([0], [1]), outputs(1)[0] <= 2, 1)
    page = verification_page(verify(network, query, semantics="float32"), network, query)
    assert "for every execution in float32" in page
    assert "flush to zero" in page
    assert "over the reals" not in page
    assert "The arithmetic is exact" not in page
    assert "--semantics float32" in page
