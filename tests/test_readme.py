"""The README's Python runs as it stands, and its commands exist."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from optverify.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_python_blocks_run(page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every Python block of the README runs from the checkout's root."""
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert "proved" in capsys.readouterr().out


def test_every_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line of the README that begins with a $, in its order; limits and the list of instances are cut short."""
    (tmp_path / "examples").mkdir()
    for folder in filter(Path.is_dir, (ROOT / "examples").iterdir()):
        (tmp_path / "examples" / folder.name).symlink_to(folder)
    instances = (ROOT / "examples" / "instances.csv").read_text().splitlines()
    (tmp_path / "examples" / "instances.csv").write_text("\n".join(instances[:3]))
    monkeypatch.chdir(tmp_path)
    lines = re.findall(r"^    \$ (.*)$", README, re.MULTILINE)
    ran = {}
    for line in lines:
        words = shlex.split(os.path.expandvars(re.sub(r"(--time-limit|--timeout) \d+", r"\1 1", line)), comments=True)
        if words[0] != "optverify":
            for name, _, value in (word.partition("=") for word in words):
                monkeypatch.setenv(name, value)
            continue
        ran[line] = main(words[1:])
        assert "error" not in capsys.readouterr().err, line
    assert len(ran) >= 20
    assert [code for line, code in ran.items() if "$FALSE" in line] == [1]
    assert {code for line, code in ran.items() if "$HARD" in line} <= {0, 2}
    assert {code for line, code in ran.items() if "$FALSE" not in line and "$HARD" not in line} == {0}


def test_links_lead_somewhere() -> None:
    """Relative links of the README and the docs name files that exist."""
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
