"""An engine in a deployment: its options under vLLM's names, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks.deployments import findings, write
from tests.command_line import Run

ONE = "defaults: {gpu: h100, gpus: 1, context: 4k}\ndeployments:\n  - {name: a, model: %s}\n"


@pytest.mark.parametrize(
    "keys",
    [
        "qwen3-8b, engine: vllm",
        "qwen3-8b, engine: vLLM@0.33, block-size: 32, attention-backend: flash_attn",
        "qwen3-8b, engine: vllm, no-enable-prefix-caching: true, enforce-eager: true",
        "qwen3-8b, engine: vllm, max_num_batched_tokens: 2048, num_gpu_blocks_override: 900",
        "gemma3-4b, engine: vllm, disable-hybrid-kv-cache-manager: true",
        "gemma3-4b, engine: vllm, limit-mm-per-prompt: {image: 0}",
        "gemma3-4b, engine: vllm, limit_mm_per_prompt: '{\"image\": 0}'",
        "qwen3-8b, engine: vllm, speculative-config: {method: ngram, num_speculative_tokens: 3}",
        "qwen3-8b, max_model_len: auto",
        "qwen3-8b, max-model-len: -1",
    ],
)
def test_a_server_is_described_as_vllm_is_started(run: Run, tmp_path: Path, keys: str) -> None:
    code, found = findings(run, write(tmp_path, ONE % keys))
    assert (code, [finding["status"] for finding in found]) == (0, ["passed"])


@pytest.mark.parametrize(
    ("keys", "code", "told"),
    [
        ("engine: vlm", 2, "did you mean vllm"),
        ("engine: vllm@0.8", 3, "the rules of vllm 0.8 are not known"),
        ("engine: 7", 2, "engine"),
        ("block_size: 32", 2, "block_size needs engine vllm"),
        ("engine: vllm, attention_backend: flash", 2, "no attention backend of vLLM"),
        ("engine: vllm, limit_mm_per_prompt: {imag: 1}", 2, "no 'imag'"),
        ("engine: vllm, limit_mm_per_prompt: 7", 2, "limit_mm_per_prompt"),
        ("engine: vllm, speculative_config: {metod: mtp}", 2, "no key 'metod'"),
        ("engine: vllm, no_enable_prefix_caching: 1", 2, "enable_prefix_caching"),
        ("max_model_len: -2", 2, "context"),
    ],
)
def test_what_is_wrong_is_told_on_its_line(
    run: Run, tmp_path: Path, keys: str, code: int, told: str
) -> None:
    result, (finding,) = findings(run, write(tmp_path, ONE % f"qwen3-8b, {keys}"))
    assert (result, finding["line"]) == (code, 3)
    assert told in finding["message"]


def test_prefix_caching_is_one_setting(run: Run, tmp_path: Path) -> None:
    """A hybrid keeps a state a sequence where nothing is shared, two or more where it is."""
    both = "engine: vllm, enable-prefix-caching: true, no-enable-prefix-caching: true"
    code, (finding,) = findings(run, write(tmp_path, ONE % f"qwen3-8b, {both}"))
    assert code == 2
    assert "two names of the same" in finding["message"]
