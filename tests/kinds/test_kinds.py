"""Each kind: elements of an entry and number of entries, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvplan.kinds import KINDS, CacheKind, kind_class
from kvplan.kinds.cross_attention import CrossAttention
from kvplan.kinds.deepseek_v4 import CompressedKV, CompressorState, LatentWindow
from kvplan.kinds.full_attention import FullAttention
from kvplan.kinds.index_keys import IndexKeys, PoolTail
from kvplan.kinds.kv_shared import KVShared
from kvplan.kinds.mla import MLA, SlidingMLA
from kvplan.kinds.recurrent import (
    GatedDeltaNet,
    KimiDeltaAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    Mlstm,
    RgLru,
    Rwkv,
    Rwkv4,
    ShortConv,
)
from kvplan.kinds.sliding_window import ChunkedLocal, SlidingWindow
from kvplan.kinds.state import State

# dots3-note: latents of 1,024 in a window of 512
LATENT: dict[str, Any] = {
    "num_attention_heads": 64,
    "kv_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}
HEADS: dict[str, Any] = {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128}


def elements(kind: CacheKind) -> int:
    return sum(slot.heads * slot.width for slot in kind.slots())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FullAttention(**HEADS), 2 * 8 * 128),
        # MiMo-V2-Flash: keys of 192, values of 128
        (FullAttention(**{**HEADS, "head_dim": 192}, v_head_dim=128), 8 * (192 + 128)),
        (SlidingWindow(**HEADS, sliding_window=4096), 2 * 8 * 128),
        (ChunkedLocal(**HEADS, attention_chunk_size=8192), 2 * 8 * 128),
        (CrossAttention(**HEADS, encoder_tokens=6404), 2 * 8 * 128),
        (KVShared(**HEADS), 0),
        # DeepSeek-V2 paper, Table 1: d_c + d_h^R
        (
            MLA(
                num_attention_heads=128,
                kv_lora_rank=512,
                qk_rope_head_dim=64,
                qk_nope_head_dim=128,
                v_head_dim=128,
            ),
            576,
        ),
        # GLM-5.3-Flash: no rotary key, so the latent alone
        (
            MLA(
                num_attention_heads=64,
                kv_lora_rank=512,
                qk_rope_head_dim=0,
                qk_nope_head_dim=256,
                v_head_dim=256,
            ),
            512,
        ),
        (SlidingMLA(**LATENT, sliding_window=512), 1_088),
        (IndexKeys(index_head_dim=128), 128),
        (PoolTail(width=256, tokens=4), 256),
        (CompressedKV(head_dim=512, qk_rope_head_dim=64, compress_ratio=4), 512),
        (
            LatentWindow(
                num_attention_heads=128, head_dim=512, qk_rope_head_dim=64, sliding_window=128
            ),
            512,
        ),
        # vLLM 0.33.0: 2,048 fp32 a token at ratio 4, 1,024 at ratio 128, 512 for the indexer
        (CompressorState(width=512, compress_ratio=4, overlap=True), 2048),
        (CompressorState(width=512, compress_ratio=128), 1024),
        (CompressorState(width=128, compress_ratio=4, overlap=True), 512),
        # Jamba-1.5-Large: 16,384 x 3 + 16,384 x 16
        (Mamba1(d_inner=16_384, d_state=16, conv_kernel=4), 16_384 * 19),
        # Nemotron-H-56B: (256 x 64 + 2 x 8 x 256) x 3 + 256 x 64 x 256
        (
            Mamba2(num_heads=256, head_dim=64, n_groups=8, d_state=256, conv_kernel=4),
            61_440 + 4_194_304,
        ),
        # Qwen3-Next: (2 x 16 x 128 + 32 x 128) x 3 + 32 x 128 x 128
        (
            GatedDeltaNet(
                num_key_heads=16,
                num_value_heads=32,
                key_head_dim=128,
                value_head_dim=128,
                conv_kernel=4,
            ),
            24_576 + 524_288,
        ),
        # Kimi-Linear: 3 x 32 x 128 x 3 + 32 x 128 x 128
        (KimiDeltaAttention(num_heads=32, head_dim=128, conv_kernel=4), 36_864 + 524_288),
        # MiniMax-Text-01: 64 x 128 x 128
        (LightningAttention(num_heads=64, head_dim=128), 1_048_576),
        (ShortConv(channels=2048, conv_kernel=3), 4_096),
        # Inkling's keys: 8 heads of 128 elements, kernel 4
        (ShortConv(channels=1024, conv_kernel=4, heads=8), 3_072),
        # RecurrentGemma-2B: 2,560 x 3 + 2,560
        (RgLru(lru_width=2560, num_heads=10, conv_kernel=4), 10_240),
        # xLSTM-7B: 8 x (256 x 512 + 256 + 1)
        (Mlstm(num_heads=8, qk_head_dim=256, v_head_dim=512), 1_050_632),
        # RWKV-4-169M: 5 x 768
        (Rwkv4(hidden_size=768, attention_hidden_size=768), 3_840),
        # RWKV-7-World-0.1B: 2 x 768 + 12 x 64 x 64
        (Rwkv(hidden_size=768, num_heads=12, head_dim=64), 50_688),
        (State(elements=1_048_576), 1_048_576),
        (State(elements=1_048_576, heads=64), 1_048_576),
    ],
)
def test_elements_of_one_entry(kind: CacheKind, expected: int) -> None:
    assert elements(kind) == expected


@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        (FullAttention(**HEADS), {1: 1, 4095: 4095, 100_001: 100_001}),
        (SlidingWindow(**HEADS, sliding_window=4096), {1: 1, 4096: 4096, 4097: 4096}),
        (ChunkedLocal(**HEADS, attention_chunk_size=8192), {8191: 8191, 8193: 8192}),
        (CrossAttention(**HEADS, encoder_tokens=1500), {1: 1500, 448: 1500}),
        (KVShared(**HEADS), {1: 0, 1000: 0}),
        # a group of 4 leaves its entry when it is complete
        (
            CompressedKV(head_dim=512, qk_rope_head_dim=64, compress_ratio=4),
            {3: 0, 4: 1, 100_001: 25_000},
        ),
        (IndexKeys(index_head_dim=128, compress_ratio=4), {7: 1, 8: 2}),
        (CompressorState(width=512, compress_ratio=4, overlap=True), {1: 8, 1000: 8}),
        (SlidingMLA(**LATENT, sliding_window=512), {1: 1, 512: 512, 513: 512}),
        (PoolTail(width=256, tokens=4), {1: 4, 1000: 4}),
        (LightningAttention(num_heads=64, head_dim=128), {1: 1, 1_000_000: 1}),
        (State(elements=5), {1: 1, 1_000_000: 1}),
    ],
)
def test_entries_after_so_many_tokens(kind: CacheKind, entries: dict[int, int]) -> None:
    assert {tokens: kind.entries(tokens) for tokens in entries} == entries


def test_a_window_no_shorter_than_the_context_is_no_window() -> None:
    """Phi-3-mini-128k slides over 262,144 of 131,072 tokens: never."""
    window = SlidingWindow(**HEADS, sliding_window=262_144)
    assert window.bounded_by(131_072) == FullAttention(**HEADS)
    assert window.bounded_by(262_145) is window
    assert window.bounded_by(None) is window
    latents = SlidingMLA(**LATENT, sliding_window=512)
    assert latents.bounded_by(512) == MLA(**LATENT)
    assert latents.bounded_by(513) is latents


@pytest.mark.parametrize(("kv_heads", "tag"), [(64, "MHA"), (8, "GQA"), (1, "MQA")])
def test_full_attention_is_called_by_its_kv_heads(kv_heads: int, tag: str) -> None:
    heads = FullAttention(num_attention_heads=64, num_key_value_heads=kv_heads, head_dim=128)
    assert heads.tag() == tag


def test_heads_that_cannot_be_shared_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match="64 attention heads cannot share 7 KV heads"):
        FullAttention(num_attention_heads=64, num_key_value_heads=7, head_dim=128)


@pytest.mark.parametrize(
    ("fields", "split"),
    [
        ({}, "whole"),
        ({"heads": 4}, "divide"),
        ({"heads": 4, "split": "replicate"}, "replicate"),
        ({"heads": 4, "split": "whole"}, "whole"),
    ],
)
def test_a_state_is_split_as_it_says(fields: dict[str, Any], split: str) -> None:
    (slot,) = State(elements=64, **fields).slots()
    assert (slot.heads, slot.width, slot.split) == (fields.get("heads", 1), 64 // slot.heads, split)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"split": "divide"}, "needs heads"),
        ({"heads": 5}, "64 elements are not a multiple of 5 heads"),
    ],
)
def test_a_state_that_cannot_be_split_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        State(elements=64, **fields)


@pytest.mark.parametrize(
    ("fields", "slot"),
    [
        ({}, (64, 3, "divide")),
        ({"heads": 8}, (8, 24, "replicate")),
        ({"split": "whole"}, (1, 192, "whole")),
    ],
)
def test_a_short_convolution_is_split_as_it_says(
    fields: dict[str, Any], slot: tuple[int, int, str]
) -> None:
    (conv,) = ShortConv(channels=64, conv_kernel=4, **fields).slots()
    assert (conv.heads, conv.width, conv.split) == slot


@pytest.mark.parametrize(
    "kind",
    [
        lambda: ShortConv(channels=64, conv_kernel=4, heads=5),
        lambda: RgLru(lru_width=64, conv_kernel=4, num_heads=5),
    ],
)
def test_heads_that_do_not_divide_the_channels_are_refused(kind: Callable[[], CacheKind]) -> None:
    with pytest.raises(ValueError, match="not a multiple of 5"):
        kind()


@pytest.mark.parametrize(
    ("keys", "word", "stored", "tag"),
    [
        (IndexKeys(index_head_dim=128), "mxfp4", "mxfp4", "DSA"),
        (IndexKeys(index_head_dim=128, index_dtype="mxfp4"), "fp8", "dsa_index", "DSA"),
        (IndexKeys(index_head_dim=128, index_dtype="bf16"), "fp8", "fp8", "MSA"),
        (IndexKeys(index_head_dim=128, index_dtype="bf16", indexer="QSA"), "fp8", "fp8", "QSA"),
    ],
)
def test_index_keys_in_another_dtype(keys: IndexKeys, word: str, stored: str, tag: str) -> None:
    """The words of vLLM 0.33.0's indexer_kv_dtype; MiniMax's fp8 has no scales."""
    other = keys.in_dtype(word)
    assert (other.index_dtype, other.tag()) == (stored, tag)


def test_index_keys_stay_in_dtypes_that_the_indexer_has() -> None:
    with pytest.raises(ValueError, match="DSA index keys are stored in fp8 or mxfp4"):
        IndexKeys(index_head_dim=128).in_dtype("bf16")


def test_every_kind_says_what_it_is() -> None:
    for name in KINDS:
        kind = kind_class(name)
        assert kind.__dataclass_fields__["kind"].default == name  # type: ignore[attr-defined]
        assert kind.about.endswith(".")
        assert kind.formula
