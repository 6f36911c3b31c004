"""``--ctx`` where a command's answers are for one context."""

from __future__ import annotations

import pytest

from tests.command_line import kvplan


@pytest.mark.parametrize("command", ["compare", "layouts"])
def test_the_longest_that_fits_is_no_context_to_put_side_by_side(command: str) -> None:
    result = kvplan(command, "gpt2", "--ctx", "auto")
    assert result.returncode == 2
    assert f"--ctx auto is the longest that fits, and {command} is for one" in result.stderr


@pytest.mark.parametrize("command", ["compare", "layouts"])
def test_a_context_that_nobody_gave_is_one_that_the_engine_serves(command: str) -> None:
    """GPT-2 has n_positions 1,024; without an engine 128k are counted all the same."""
    short = kvplan(command, "gpt2", "--engine", "vllm", "--json").document
    long = kvplan(command, "gpt2", "--json").document
    assert short["inputs"]["context_tokens"] == 1_024
    assert long["inputs"]["context_tokens"] == 131_072
