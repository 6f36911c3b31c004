"""What a plan with an engine says: its waste by name, refusals in its words, what is given."""

from __future__ import annotations

import json

import pytest

from kvplan.views.changes import in_words
from tests.command_line import kvplan

LAYOUTS = (("-tp", "2"), ("-pp", "2"), ("-dp", "2"), ("-tp", "8", "-dcp", "8"))
MODELS = ("deepseek-v3", "deepseek-v4-flash", "gemma3-27b", "gpt-oss-120b", "jamba-1.5-mini")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
def test_lines_of_waste_are_no_less_than_nothing_and_add_up(
    model: str, layout: tuple[str, ...]
) -> None:
    answer = kvplan("plan", model, "--gpu", "h200", "--engine", "vllm", *layout, "--json")
    if answer.returncode == 3:  # DCP, of windows and of grouped queries
        assert "refuses it" in answer.stderr
        return
    gpu = answer.document["per_gpu"]
    sizes = [line["bytes"] for line in gpu["waste"]]
    assert min(sizes) >= 0
    assert gpu["least_kv_bytes"] + sum(sizes) == gpu["kv_bytes"]


def test_an_encoders_input_counts_as_a_whole_step() -> None:
    """Whisper: 8,192 tokens of a step in place of 1,500, at 2 × 20 × 64 × 2 × 32 B a token."""
    plan = ("plan", "whisper-large-v3", "--gpus", "1", "--ctx", "448", "--sequences", "1")
    lines = kvplan(*plan, "--engine", "vllm", "--json").document["per_gpu"]["waste"]
    sizes = {line["name"]: line["bytes"] for line in lines}
    assert sizes["encoder tokens"] == (8_192 - 1_500) * 2 * 20 * 64 * 2 * 32
    assert sizes["ends of pages"] == 0


def test_an_encoders_input_is_not_divided_over_steps() -> None:
    plan = ("plan", "whisper-large-v3", "--engine", "vllm", "--max-num-batched-tokens", "1499")
    answer = kvplan(*plan)
    assert answer.returncode == 3
    assert "max_tokens_per_mm_item (1500) is larger than max_num_batched_tokens (1499)" in (
        answer.stderr
    )


@pytest.mark.parametrize("command", [("plan",), ("plan", "--gpus", "2"), ("layouts",)])
def test_a_model_that_a_release_takes_in_no_layout_is_refused(command: tuple[str, ...]) -> None:
    name, *rest = command
    answer = kvplan(name, "gpt-oss-120b", *rest, "--engine", "vllm@0.9.1")
    assert answer.returncode == 3
    assert "does not serve GptOssForCausalLM" in answer.stderr


def test_an_engines_own_words_name_no_flags() -> None:
    answer = kvplan("plan", "llama3-8b", "--engine", "vllm", "--block-size", "17")
    assert answer.returncode == 3
    assert "FLASH_ATTN: [block_size not supported]" in answer.stderr


def test_json_in_a_hint_is_json() -> None:
    answer = kvplan("plan", "llama3-8b", "--engine", "vllm", "--speculative-config", "{}")
    assert answer.returncode == 2
    assert '{"method": "mtp", "num_speculative_tokens": 1}' in answer.stderr


def test_blocks_that_are_given_and_do_not_fit_are_named() -> None:
    plan = ("plan", "llama3-8b", "--gpus", "1", "--engine", "vllm")
    answer = kvplan(*plan, "--num-gpu-blocks-override", "100000")
    assert answer.returncode == 1
    # 100,000 blocks of 16 tokens at 128 KiB: 195.31 GiB
    assert "weights, overhead and the given 195.31 GiB take" in answer.stdout


def test_an_option_of_json_that_changed_is_json() -> None:
    assert json.loads(in_words({"image": 0})) == {"image": 0}


def test_a_load_that_not_every_server_would_hold_is_said_to_be_one() -> None:
    """2 requests of 80,000 tokens: 5,000 blocks of full layers and 1,033 of windows each.

    12,067 blocks of 589,824 B are 6.63 GiB, between the least and the figure for this card.
    """
    line = ("plan", "gpt-oss-120b", "--gpu", "h100", "--engine", "vllm", "-tp", "1", "--gpus", "1")
    answer = kvplan(*line, "--ctx", "80000", "--sequences", "2", "--json").document
    low_bytes, _ = answer["per_gpu"]["kv_available_range_bytes"]
    assert answer["per_gpu"]["kv_bytes"] == 12_067 * 589_824
    assert low_bytes < 12_067 * 589_824 < answer["per_gpu"]["kv_available_bytes"]
    assert "not at the low end" in answer["answer"]
    shorter = kvplan(*line, "--ctx", "64k", "--sequences", "1", "--json").document
    assert "not at the low end" not in shorter["answer"]
