"""Readers that do not wait for the end of an answer."""

from __future__ import annotations

import subprocess
import sys


def test_a_reader_that_goes_away_is_no_failure() -> None:
    command = f"{sys.executable} -m kvplan list | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr == ""
