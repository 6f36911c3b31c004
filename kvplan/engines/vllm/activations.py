"""Tensors that live at the widest point of a dummy step, as vLLM 0.33.0 profiles one.

Elements a token, of 16 bits, on one GPU of a tensor group. Paths are of vLLM's package.
"""

from __future__ import annotations

from kvplan.kinds.full_attention import AttentionHeads
from kvplan.kinds.index_keys import IndexKeys
from kvplan.kinds.mla import LatentAttention
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div
from kvplan.weights import active_experts, hidden_size

_BYTES = 2
_GATE_UP_DOWN = 3
_CONTEXT_ROWS = 64 * 1_024
"""Of chunked context that MLA projects up at once (attention/mla_attention.py:2334)."""
_CONTEXT_REQUESTS = 8
_LATENT_BYTES, _INDEX_KEY_BYTES = 576 * 2, 132
_SHORT_CONTEXT, _SHORT_FACTOR, _LONG_FACTOR = 256 * 1_024, 5, 2


def vocabulary(spec: ModelSpec) -> int:
    """Columns of the logits: rows of the vocabulary, from the embedding where not given."""
    embedding = sum(row.elements for row in spec.weights if row.part == "embedding")
    return spec.vocab_size or embedding // hidden_size(spec)


def forward_bytes(spec: ModelSpec, layout: Layout, tokens: int, context_tokens: int) -> int:
    """The widest layer of a step of so many tokens, the residual and its input beside it."""
    widest = max(_mlp(spec, layout), _experts(spec, layout), _attention(spec, layout))
    step_bytes = tokens * (widest + 2 * hidden_size(spec)) * _BYTES
    if any(isinstance(kind, IndexKeys) for kind, _, _ in spec.caches_as_written()):
        return step_bytes + indexed_bytes(context_tokens)
    return max(step_bytes, _latent_context_bytes(spec, layout, tokens, context_tokens))


def indexed_bytes(context_tokens: int) -> int:
    """Index keys of a prefill that sparse attention gathers, as many as its latents would take.

    v1/attention/backends/mla/indexer.py:916, config/vllm.py:1872.
    """
    factor = _SHORT_FACTOR if context_tokens <= _SHORT_CONTEXT else _LONG_FACTOR
    return context_tokens * (_LATENT_BYTES // _INDEX_KEY_BYTES) * factor * _INDEX_KEY_BYTES


def _mlp(spec: ModelSpec, layout: Layout) -> int:
    """Gate and up in one, and their product; of a model whose layers all have a dense MLP."""
    if spec.has_routed_experts:
        return 0
    elements = sum(
        row.elements for row in spec.weights if row.part == "dense_mlp" and row.what is None
    )
    width = elements // (_GATE_UP_DOWN * hidden_size(spec) * spec.total_layers)
    return _GATE_UP_DOWN * ceil_div(width, layout.tensor)


def _experts(spec: ModelSpec, layout: Layout) -> int:
    """Two work buffers of all chosen experts (layers/fused_moe/experts/triton_moe.py:240).

    Whole experts on each GPU take a token's row for each that it chose; tokens of all data-parallel
    ranks come together.
    """
    width = spec.expert_intermediate_size
    if not spec.has_routed_experts or not spec.routed_experts or width is None:
        return 0
    if not layout.expert_parallel:
        width = ceil_div(width, layout.tensor * layout.data)
    hidden = hidden_size(spec)
    rows = max(1, round(active_experts(spec) * spec.routed_experts)) * layout.data
    return rows * (max(2 * width, hidden) + max(width, hidden))


def _attention(spec: ModelSpec, layout: Layout) -> int:
    """Queries, keys, values and the output of the widest layer."""
    widths = [0]
    for kind, _, _ in spec.caches_as_written():
        heads = kind.query_heads()
        if heads is None:
            continue
        if isinstance(kind, LatentAttention):
            wide = kind.qk_nope_head_dim + kind.qk_rope_head_dim
            widths.append(heads * (2 * wide + kind.qk_nope_head_dim + 3 * kind.v_head_dim))
        elif isinstance(kind, AttentionHeads):
            kept = kind.num_key_value_heads * (kind.head_dim + kind.value_dim)
            widths.append(2 * heads * kind.head_dim + kept)
    return ceil_div(max(widths), layout.tensor)


def _latent_context_bytes(spec: ModelSpec, layout: Layout, tokens: int, context_tokens: int) -> int:
    """Keys and values of MLA's chunked context, projected up, which a dummy step sets aside."""
    widths = [0]
    for kind, _, _ in spec.caches_as_written():
        if isinstance(kind, LatentAttention):
            heads = ceil_div(kind.query_heads() or 0, layout.tensor)
            widths.append(heads * (kind.qk_nope_head_dim + kind.v_head_dim))
    rows = min(_CONTEXT_ROWS, _CONTEXT_REQUESTS * context_tokens)
    return rows * max(widths) * _BYTES + tokens * 2 * hidden_size(spec) * _BYTES
