"""What is said of a draft model, adapters and host memory beside a table of plans."""

from __future__ import annotations

import pytest

from tests.command_line import kvplan


@pytest.mark.parametrize("command", ["compare", "layouts"])
def test_host_memory_changes_no_row_and_one_slot_is_a_slot(command: str) -> None:
    fixed = (command, "qwen3-8b", "--gpu", "h100", "--gpus", "1", "--ctx", "8k")
    result = kvplan(*fixed, "--kv-offloading-size", "44GiB", "--max-loras", "1")
    assert result.returncode == 0
    assert "1 LoRA slot of rank 16" in " ".join(result.stdout.split())
    assert "host memory for caches changes nothing here" in result.stderr
    assert "host memory" not in kvplan(*fixed).stderr
