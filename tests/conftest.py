"""Fixtures of all rooms."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.command_line import Run, kvplan

# No test is timed: how long an example takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``kvplan ARGUMENTS`` in a folder of its own, outside of any CI."""
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return kvplan
