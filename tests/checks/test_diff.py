"""``kvplan diff`` of two models, and of two lock files."""

from __future__ import annotations

from pathlib import Path

from tests.checks.deployments import write
from tests.command_line import Run


def test_diff_of_two_models(run: Run) -> None:
    result = run("diff", "llama3-70b", "deepseek-v3", "--ctx", "128k", "--json")
    told = {each["figure"]: each for each in result.document["differences"]}
    assert result.returncode == 0
    # 80 layers × 2 × 8 heads × 128 × 2 B, and 61 layers × (512 + 64) × 2 B
    assert (told["bytes_per_token"]["before"], told["bytes_per_token"]["after"]) == (327680, 70272)
    assert (told["attention"]["before"], told["attention"]["after"]) == ("GQA", "MLA")
    assert run("diff", "gpt2", "gpt2", "--json").document["differences"] == []


def test_diff_of_two_lock_files(run: Run, tmp_path: Path) -> None:
    for name, context in (("a", "4k"), ("b", "8k")):
        asked = f"gpu: h100, gpus: 1, sequences: 2, context: {context}"
        file = write(tmp_path, f"deployments: [{{name: x, model: gpt2, {asked}}}]\n")
        run("check", file, "--baseline", f"{name}.lock.json", "--update-baseline")
    result = run("diff", "a.lock.json", "b.lock.json", "--json")
    told = {each["figure"]: each for each in result.document["differences"]}
    assert told["kv_bytes"]["before"] == 2 * 4096 * 36_864  # 12 layers × 2 × 12 heads × 64 × 2 B
    assert told["kv_bytes"]["after"] == 2 * 8192 * 36_864
    assert told["kv_bytes"]["cause"] == "deployment changed"
    assert run("diff", "a.lock.json", "gpt2").returncode == 2
