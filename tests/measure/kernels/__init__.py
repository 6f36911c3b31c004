"""Tests that need torch; where it is missing, each file of them is skipped as it is imported."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
