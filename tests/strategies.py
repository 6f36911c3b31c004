"""Hypothesis strategies: any model of any kinds."""

from __future__ import annotations

from hypothesis import strategies as st

from kvplan.groups import Group
from kvplan.kinds import CacheKind
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
from kvplan.spec import ModelSpec
from kvplan.stored import Parameters, StoredWeights

small = st.integers(1, 8)
widths = st.sampled_from([32, 64, 96, 128, 256])
windows = st.integers(1, 5_000)
kernels = st.integers(2, 5)
heads = st.tuples(small, small).map(
    lambda pair: {"num_key_value_heads": pair[0], "num_attention_heads": pair[0] * pair[1]}
)


def _with_heads(
    kind: type[CacheKind], **fields: st.SearchStrategy[int]
) -> st.SearchStrategy[CacheKind]:
    geometry = st.fixed_dictionaries({"head_dim": widths, "v_head_dim": st.none() | widths})
    rest = st.fixed_dictionaries(fields)
    return st.tuples(heads, geometry, rest).map(
        lambda parts: kind(**{**parts[0], **parts[1], **parts[2]})
    )


kinds: st.SearchStrategy[CacheKind] = st.one_of(
    _with_heads(FullAttention),
    _with_heads(SlidingWindow, sliding_window=windows),
    _with_heads(ChunkedLocal, attention_chunk_size=windows),
    _with_heads(CrossAttention, encoder_tokens=windows),
    _with_heads(KVShared),
    st.builds(
        MLA,
        num_attention_heads=small,
        kv_lora_rank=widths,
        qk_rope_head_dim=st.just(0) | widths,
        qk_nope_head_dim=widths,
        v_head_dim=widths,
    ),
    st.builds(
        SlidingMLA,
        num_attention_heads=small,
        kv_lora_rank=widths,
        qk_rope_head_dim=st.just(0) | widths,
        qk_nope_head_dim=widths,
        v_head_dim=widths,
        sliding_window=windows,
    ),
    st.builds(
        IndexKeys,
        index_head_dim=widths,
        compress_ratio=small,
        index_dtype=st.sampled_from(["dsa_index", "bf16", "fp8", "mxfp4"]),
        indexer=st.sampled_from([None, "DSA", "MSA", "QSA"]),
    ),
    st.builds(
        PoolTail, width=widths, tokens=small, state_dtype=st.sampled_from(["bf16", "fp16", "fp32"])
    ),
    st.builds(
        CompressedKV,
        head_dim=st.just(512),
        qk_rope_head_dim=st.just(64),
        compress_ratio=st.sampled_from([4, 128]),
    ),
    st.builds(
        LatentWindow,
        num_attention_heads=small,
        head_dim=st.just(512),
        qk_rope_head_dim=st.just(64),
        sliding_window=windows,
    ),
    st.builds(CompressorState, width=widths, compress_ratio=small, overlap=st.booleans()),
    st.builds(Mamba1, d_inner=widths, d_state=small, conv_kernel=kernels),
    st.builds(
        Mamba2,
        num_heads=small,
        head_dim=widths,
        n_groups=small,
        d_state=widths,
        conv_kernel=kernels,
    ),
    st.builds(
        GatedDeltaNet,
        num_key_heads=small,
        num_value_heads=small,
        key_head_dim=widths,
        value_head_dim=widths,
        conv_kernel=kernels,
    ),
    st.builds(KimiDeltaAttention, num_heads=small, head_dim=widths, conv_kernel=kernels),
    st.builds(LightningAttention, num_heads=small, head_dim=widths),
    st.builds(
        ShortConv,
        channels=widths,
        conv_kernel=kernels,
        heads=st.none() | st.sampled_from([2, 4, 8]),
        split=st.sampled_from([None, "whole"]),
    ),
    st.builds(RgLru, lru_width=widths, num_heads=st.sampled_from([2, 4]), conv_kernel=kernels),
    st.builds(Mlstm, num_heads=small, qk_head_dim=widths, v_head_dim=widths),
    st.builds(Rwkv4, hidden_size=widths, attention_hidden_size=widths),
    st.builds(
        Rwkv, hidden_size=widths, num_heads=small, head_dim=widths, v_head_dim=st.none() | widths
    ),
    st.builds(
        lambda each, heads, dtype: State(
            elements=each * (heads or 1), heads=heads, state_dtype=dtype
        ),
        st.integers(1, 10**7),
        st.none() | small,
        st.sampled_from(["fp32", "bf16", "fp16", "model"]),
    ),
)

groups = st.builds(Group, layers=st.integers(1, 40), caches=st.lists(kinds, max_size=3).map(tuple))

parameters = st.integers(10**6, 10**12)


def _spec(layer_groups: list[Group], total: int) -> ModelSpec:
    return ModelSpec(
        name="drawn",
        source="hypothesis",
        native_context_tokens=None,
        dtype="bf16",
        parameters=Parameters(total=total, active=total),
        weights=(StoredWeights(dtype="bf16", elements=total),),
        groups=tuple(layer_groups),
    )


specs = st.builds(_spec, st.lists(groups, min_size=1, max_size=4), parameters)
