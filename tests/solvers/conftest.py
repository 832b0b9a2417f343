"""An environment in which MOSEK finds no licence, whatever this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def unlicensed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Point MOSEK to a licence file that does not exist."""
    missing = tmp_path / "mosek.lic"
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", str(missing))
    monkeypatch.setenv("HOME", str(tmp_path))
    return missing
