"""Readers of latent and sparse attention: MLA, DSA, DeepSeek-V4, MiniMax-M3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.config import MAX_TOKENS, Config, Figure, Rule, shown
from kvplan.hf.geometry import DENSE, OWN_HEAD_DIM
from kvplan.hf.layers import (
    FULL,
    MTP,
    Layer,
    Plan,
    Reader,
    cache,
    drafts,
    layer_count,
    layer_types,
    zero_or_one,
)
from kvplan.hf.ordinary import dense

CSA = 4
"""Ratio of DeepSeek-V4's compressed sparse attention, the one whose groups overlap."""


def mla(*layer_keys: str, copies: int = 1, mtp: str = MTP) -> Reader:
    """One latent vector a token; ``copies`` of it a layer (LongCat-Flash has two sub-layers)."""

    def read(config: Config) -> Plan:
        latent = geo.mla(config)
        count = layer_count(config, *(layer_keys or ("num_hidden_layers",)))
        draft = ((latent,),) * drafts(config, mtp)
        return Plan(((latent,) * copies,) * count, count.origin, draft)

    return read


def deepseek_v2(config: Config) -> Plan:
    """MLA, but DeepSeek-VL2's smallest has ``use_mla`` off and ordinary heads."""
    if config.flag("use_mla", default=True):
        return mla()(config)
    config.ignore("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim")
    config.ignore("v_head_dim")
    return dense(DENSE)(config)


def minicpm3(config: Config) -> Plan:
    """MLA; ``v_head_dim`` is hidden size over heads where absent (MiniCPM3Config)."""
    if not config.has("v_head_dim"):
        width = geo.quotient(
            config, config.count("hidden_size"), config.count("num_attention_heads")
        )
        config = replace(config, defaults={"v_head_dim": int(width)}, defaults_source=width.origin)
    return mla()(config)


def sparse_mla(rule: Rule | None = None) -> Reader:
    """MLA with DeepSeek's indexer: keys of its own on layers whose indexer is not shared."""

    def read(config: Config) -> Plan:
        latent, keys = geo.mla(config), geo.index_keys(config)
        count = layer_count(config)
        attention = config.words("layer_types")
        known = {"indexed_attention", "deepseek_sparse_attention", FULL}
        if attention is not None and not set(attention) <= known:
            config.refuse("layer_types names other layers than indexed_attention")
        types = _indexers(config, count, rule)
        layers = by_type_of(
            config, "indexer_types", types, {"full": (latent, keys), "shared": (latent,)}
        )
        # The draft layer brings an indexer of its own (vLLM 0.33.0 models/deepseek_mtp.py).
        return Plan(layers, count.origin, ((latent, keys),) * drafts(config, MTP))

    return read


def by_type_of(
    config: Config, key: str, types: Sequence[str], layers: dict[str, Layer]
) -> tuple[Layer, ...]:
    """Each layer by a type of its own key."""
    unknown = sorted({str(kind) for kind in types} - set(layers))
    if unknown:
        config.refuse(f"{config.name(key)} names {shown(unknown[0])}; known: {', '.join(layers)}")
    return tuple(layers[kind] for kind in types)


def _indexers(config: Config, layers: int, rule: Rule | None) -> Sequence[str]:
    """``indexer_types``, else a pattern or period (GlmMoeDsaConfig), else every layer its own."""
    config.ignore("index_share_for_mtp_iteration", "indexer_rope_interleave")
    types = config.per_layer("indexer_types", config.words("indexer_types"), layers)
    period = config.maybe("index_topk_freq", least=0)
    offset = config.maybe("index_skip_topk_offset", least=0)
    pattern = config.word("index_topk_pattern")
    if types is not None:
        return types
    if pattern is not None:
        names = {"F": "full", "S": "shared"}
        letters = config.per_layer("index_topk_pattern", pattern, layers) or ""
        return [names.get(letter, letter) for letter in letters]
    if period is not None and period > 1:
        start = 2 if offset is None else offset
        return ["full" if max(i - start + 1, 0) % period == 0 else "shared" for i in range(layers)]
    return [rule(i) if rule else "full" for i in range(layers)]


def deepseek_v4(config: Config) -> Plan:
    """``compress_ratios`` by layer, draft layers last: 0 a window only, 4 CSA, 128 HCA.

    Every layer keeps a window of raw vectors too. transformers saves the same as ``layer_types``
    and ``compress_rates`` (DeepseekV4Config). The KV layout is fp8_ds_mla unless the user asks
    for another (vLLM 0.33.0 models/deepseek_v4).
    """
    layers, draft = layer_count(config), drafts(config, MTP)
    config.require("num_key_value_heads", 1)
    config.ignore("index_n_heads", "index_topk", "q_lora_rank", "compress_rope_theta")
    ratios = _ratios(config, layers, draft)
    caches = {ratio: _compressed(config, ratio) for ratio in set(ratios)}
    stack = [caches[ratio] for ratio in ratios]
    return Plan(tuple(stack[:layers]), layers.origin, tuple(stack[layers:]), "fp8_ds_mla")


def _ratios(config: Config, layers: int, draft: int) -> list[int]:
    rates = config.section("compress_rates")
    ratios = config.numbers("compress_ratios")
    if ratios is None and rates is not None:
        names = {"sliding_attention": 0}
        for kind in ("compressed_sparse_attention", "heavily_compressed_attention"):
            names[kind] = rates.count(kind)
        types = layer_types(config, layers, None)
        ratios = [names.get(kind, -1) for kind in types]
    if ratios is None:
        config.missing("compress_ratios", "compress_rates")
    spare = ratios[layers:]
    if len(ratios) < layers or (len(spare) > draft and any(spare)):
        config.refuse(
            f"compress_ratios has {len(ratios)} entries for {layers} layers and {draft} draft"
        )
    unknown = sorted(set(ratios) - {0, 1, 4, 128})
    if unknown:
        config.refuse(f"a layer compresses by {unknown[0]}; known are 0, 4 and 128")
    return [
        0 if ratio == 1 else ratio for ratio in (*ratios, *[0] * (layers + draft - len(ratios)))
    ]


def _compressed(config: Config, ratio: int) -> Layer:
    """A layer's caches; state shapes of vLLM 0.33.0 models/deepseek_v4/compressor.py:179."""
    width, rope = config.count("head_dim"), config.count("qk_rope_head_dim")
    window = cache(
        "latent_window",
        head_dim=width,
        qk_rope_head_dim=rope,
        num_attention_heads=config.count("num_attention_heads"),
        sliding_window=config.count("sliding_window", most=MAX_TOKENS),
    )
    if not ratio:
        return (window,)
    fold = Figure(ratio, config.name("compress_ratios"))
    overlap = True if ratio == CSA else None
    state = cache("compressor_state", width=width, compress_ratio=fold, overlap=overlap)
    entry = cache("compressed_kv", head_dim=width, qk_rope_head_dim=rope, compress_ratio=fold)
    if not overlap:
        return (entry, state, window)
    index = config.count("index_head_dim")
    keys = cache("index_keys", index_head_dim=index, compress_ratio=fold)
    index_state = cache("compressor_state", width=index, compress_ratio=fold, overlap=True)
    return (entry, keys, state, index_state, window)


def minimax_m3(config: Config) -> Plan:
    """Keys and values on every layer and one bf16 index key on the sparse ones.

    vLLM 0.33.0's own page sizes give 256 B a key, beside an fp8 cache too.
    """
    figures, layers = geo.heads(config, OWN_HEAD_DIM), layer_count(config)
    plain = geo.full(figures)
    section = config.section("sparse_attention_config")
    sparse = _sparse_layers(config, section, layers)
    source, key = (section, "sparse_index_dim") if section else (config, "index_head_dim")
    config.ignore(
        "index_n_heads",
        "index_head_dim",
        "index_block_size",
        "index_topk_blocks",
        "index_local_blocks",
    )
    stack: tuple[Layer, ...] = ((plain,),) * layers
    if any(sparse):
        keys = cache("index_keys", index_head_dim=source.count(key), index_dtype="bf16")
        stack = tuple((plain, keys) if flag else (plain,) for flag in sparse)
    return Plan(stack, layers.origin)


def _sparse_layers(config: Config, section: Config | None, layers: int) -> Sequence[bool]:
    if section is not None and section.flag("use_sparse_attention", default=True):
        freq = section.numbers("sparse_attention_freq")
        flags = section.per_layer("sparse_attention_freq", freq, layers)
        if flags is None:
            section.missing("sparse_attention_freq")
        return [zero_or_one(section, "sparse_attention_freq", flag) for flag in flags]
    if section is not None:
        return [False] * layers
    types = layer_types(config, layers, None)
    known = {FULL: False, "minimax_m3_sparse": True}
    if set(types) - set(known):
        config.refuse("layer_types names other layers than full_attention and minimax_m3_sparse")
    return [known[kind] for kind in types]
