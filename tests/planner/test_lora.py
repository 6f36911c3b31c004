"""Slots for LoRA adapters, by vLLM's rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.planner.lora import LoraSlots


def slots(model: str, **options: Any) -> LoraSlots:
    fixed = {"gpu": "h200", "context_tokens": "1k", "sequences": 1, "max_loras": 1}
    layout = {} if "pipeline_parallel_size" in options else {"tensor_parallel_size": 1}
    asked = {**fixed, **layout, "max_lora_rank": 8, **options}
    lora = kvplan.plan(model, **asked).budget.lora
    assert lora is not None
    return lora


@pytest.mark.parametrize("model", ["llama2-7b", "qwen-7b"])
def test_a_slot_of_a_7b(model: str) -> None:
    """Four matrices of 4,096 x 4,096 and three of 4,096 x 11,008 in 32 layers, rank 8, 2 B.

    triton-inference-server/tensorrtllm_backend#559 has q, k and v apart.
    """
    expected = (4 * 2 * 4_096 * 8 + 3 * (4_096 + 11_008) * 8) * 32 * 2
    assert slots(model).layer_bytes == expected == 39_976_960


def test_the_ends_of_a_llama_have_slots_of_their_own() -> None:
    """VLLM's LlamaForCausalLM names embed_tokens and lm_head; each is 8 x (32,000 + 4,096)."""
    assert slots("llama2-7b").vocabulary_bytes == 2 * 8 * (32_000 + 4_096) * 2
    assert slots("qwen2.5-7b").vocabulary_bytes == 0


def test_half_of_each_pair_is_copied_over_the_tensor_group() -> None:
    """Llama-3-70B on four GPUs: q, k, v and o with 8 KV heads, gate, up and down.

    A of q, k, v, gate and up is whole and B cut; of o and down the other way round.
    """
    attention = 3 * 8_192 + (8_192 + 2 * 1_024) // 4 + 8_192 // 4 + 8_192
    mlp = 2 * 8_192 + 2 * 28_672 // 4 + 28_672 // 4 + 8_192
    expected = 80 * (attention + mlp) * 8 * 2
    assert slots("llama3-70b", tensor_parallel_size=4).layer_bytes == expected


def test_key_heads_are_divided_as_far_as_one_each() -> None:
    """Qwen2.5-7B has 28 query and 4 KV heads of 128: on four GPUs seven and one."""
    hidden, wide = 3_584, 18_944
    lora = slots("qwen2.5-7b", tensor_parallel_size=4)
    attention = 3 * hidden + hidden // 4 + 2 * 128 + hidden // 4 + hidden
    mlp = 2 * hidden + 3 * wide // 4 + hidden
    assert lora.layer_bytes == 28 * (attention + mlp) * 8 * 2


def test_more_gpus_than_key_heads_have_one_each() -> None:
    """Qwen3-30B-A3B's 4 KV heads of 128 on 8 GPUs: the rows of one for each of k and v."""
    attention = 3 * 2_048 + 4_096 // 8 + 2 * 128 + 4_096 // 8 + 2_048
    experts = 128 * (2 * 2_048 + 2_048) + 128 * 3 * 768 // 8
    lora = slots("qwen3-30b-a3b", tensor_parallel_size=8)
    assert lora.layer_bytes == 48 * (attention + experts + 2_048 + 128) * 8 * 2


def test_every_expert_has_a_pair() -> None:
    """Qwen3-30B-A3B: 128 experts of 2,048 x 768, a router, 32 and 4 heads of 128, 48 layers."""
    attention = (2_048 + 4_096) + 2 * (2_048 + 512) + (4_096 + 2_048)
    experts = 128 * 3 * (2_048 + 768)
    router = 2_048 + 128
    expected = 48 * (attention + experts + router) * 8 * 2
    assert slots("qwen3-30b-a3b", tensor_parallel_size=1).layer_bytes == expected == 845_512_704
    options = {"tensor_parallel_size": 4, "enable_expert_parallel": True}
    quarter = slots("qwen3-30b-a3b", **options)
    attention = 3 * 2_048 + (4_096 + 2 * 512) // 4 + 4_096 // 4 + 2_048
    assert quarter.layer_bytes == 48 * (attention + experts // 4 + router) * 8 * 2


def test_stages_have_their_share() -> None:
    whole = slots("llama2-7b")
    half = slots("llama2-7b", pipeline_parallel_size=2)
    assert 2 * half.layer_bytes == whole.layer_bytes
    assert 2 * half.vocabulary_bytes == whole.vocabulary_bytes


@given(st.integers(1, 200), st.sampled_from([1, 8, 16, 32, 64, 128, 256, 320, 512]))
def test_slots_are_linear_in_number_and_rank(count: int, rank: int) -> None:
    one, many = slots("llama2-7b", max_lora_rank=1), slots("llama2-7b", max_lora_rank=rank)
    assert many.bytes_per_slot == rank * one.bytes_per_slot
    lora = slots("llama2-7b", max_loras=count, max_lora_rank=rank)
    assert lora.size_bytes == count * many.bytes_per_slot


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("deepseek-v3", "it has MLA layers"),
        ("qwen3.5-27b", "it has GDN layers"),
        ("mixtral-8x22b", "the shapes of its matrices are not known"),
    ],
)
def test_what_is_not_known_is_refused(model: str, message: str) -> None:
    with pytest.raises(kvplan.RefusedError, match=message):
        kvplan.plan(model, gpu="h200", max_loras=2)
