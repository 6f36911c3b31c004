"""Xiaomi's MiMo: Qwen-2's layers, then full and sliding layers with heads of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, PLAIN, Style, decoder, stack
from kvplan.hf.families.experts import DEEPSEEK, by_topk_method, dense_first
from kvplan.hf.families.windows import after_full_layers
from kvplan.hf.geometry import needed_window
from kvplan.hf.layers import (
    FULL,
    SLIDING,
    agree,
    by_type,
    layer_count,
    layer_types,
    zero_or_one,
)
from kvplan.hf.quantization import Published

_PATTERN, _SWA_SINKS = "hybrid_layer_pattern", "add_swa_attention_sink_bias"
_EXPERTS = replace(DEEPSEEK, no_shared="missing", correction=by_topk_method)


def _mimo_v2(config: Config) -> Model:
    """``hybrid_layer_pattern`` 0 is full, 1 sliding (remote code); sinks where the file says so."""
    original = any(key.startswith(("swa_", "hybrid_")) for key in config.raw)
    if config.has("layer_types") and not original:
        return _saved(config)
    count = layer_count(config)
    pattern = config.per_layer(_PATTERN, config.numbers(_PATTERN), count)
    if pattern is None:
        config.missing(_PATTERN)
    config.ignore("attention_chunk_size", "swa_rope_theta", _SWA_SINKS)
    named = [SLIDING if zero_or_one(config, _PATTERN, flag) else FULL for flag in pattern]
    types = layer_types(config, count, named.__getitem__)
    agree(config, _PATTERN, types, named.__getitem__)
    full = _heads(config, "", "add_full_attention_sink_bias")

    def local() -> Layer:
        size, heads = needed_window(config), _heads(config, "swa_", _SWA_SINKS)
        if heads.v_width != full.v_width:
            config.refuse(
                f"swa_v_head_dim is {heads.v_width}, but v_head_dim, which transformers 5.24.0 "
                f"takes on every layer, is {full.v_width}"
            )
        return (heads.sliding(size),)

    layers = by_type(config, types, {FULL: lambda: (full,), SLIDING: local})
    return stack(config, PLAIN, layers, _EXPERTS, _but_the_first)


def _but_the_first(config: Config, layers: int) -> Iterable[int]:
    """Experts and sinks as its own code and transformers both have them."""
    if config.flag("add_full_attention_sink_bias") or not config.flag(_SWA_SINKS):
        raise UncountedError("sinks are not in sliding layers alone, where transformers has them")
    sparse = [*dense_first(config, layers)]
    if sparse != [*range(1, layers)]:
        raise UncountedError(
            "experts are not in every layer but the first, where transformers 5.24.0 has them"
        )
    return sparse


def _saved(config: Config) -> Model:
    """As transformers saves it, without the figures of sliding layers.

    MiMoV2FlashAttention: these have twice the KV heads, and sinks; the window counts the query.
    """
    full = _heads(config, "", "add_full_attention_sink_bias")
    kv = Figure(2 * full.kv, "2 × num_key_value_heads")
    local = replace(full, kv=kv, sinks="sinks").sliding(needed_window(config))
    types = layer_types(config, layer_count(config), None)
    layers = by_type(config, types, {FULL: lambda: (full,), SLIDING: lambda: (local,)})
    return stack(config, PLAIN, layers, _EXPERTS, dense_first)


def _heads(config: Config, prefix: str, sinks: str) -> Attention:
    bias = config.on(ATTENTION_BIAS)
    return Attention(
        heads=config.count(f"{prefix}num_attention_heads"),
        kv=config.count(f"{prefix}num_key_value_heads"),
        width=config.count(f"{prefix}head_dim"),
        v_width=config.count(f"{prefix}v_head_dim"),
        bias=bias,
        out_bias=False,
        sinks="attention_sink_bias" if config.flag(sinks) else "",
    )


# Published fp8 files name modules that stay as they are (o_proj).
_MIMO_V2 = Family(read=_mimo_v2, published=Published(lists_fp8=True))

FAMILIES: dict[str, Family] = {
    "mimo": Family(
        read=decoder(Style(bias=("attention_bias", True), out_bias=False), after_full_layers)
    ),
    "mimo_v2_flash": _MIMO_V2,
    # MiMo-V2.5 and 2.6: the same layers (vLLM 0.33.0 model_executor/models/mimo_v2.py:1125).
    "mimo_v2": replace(_MIMO_V2, classes=("mimov2", "mimov2omni")),
    # Around them a tower for images and one for sound (mimo_v2_omni.py:1286).
    "mimo_v2_omni": replace(_MIMO_V2, sees=True),
}
