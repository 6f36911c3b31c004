"""Readers of full and windowed attention, in every dialect of layer plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvplan.hf import geometry as geo
from kvplan.hf.config import MAX_TOKENS, Config, Figure, Rule, shown
from kvplan.hf.geometry import DENSE, OWN_HEAD_DIM, Dialect, Heads
from kvplan.hf.layers import (
    FULL,
    MTP,
    SLIDING,
    Layer,
    Plan,
    Reader,
    agree,
    by_type,
    cache,
    drafts,
    layer_count,
    layer_types,
    one_full_in,
    uniform,
)


def dense(dialect: Dialect = DENSE, *layer_keys: str, mtp: str = MTP) -> Reader:
    """Full attention on every layer."""

    def read(config: Config) -> Plan:
        types = config.words("layer_types")
        if types is not None and set(types) != {FULL}:
            config.refuse("layer_types names other layers than full_attention")
        layer = (geo.full(geo.heads(config, dialect)),)
        return uniform(config, layer, *layer_keys, draft=drafts(config, mtp))

    return read


def windowed(dialect: Dialect = DENSE, *, absent: str | None = None) -> Reader:
    """``sliding_window`` on every layer where it is set; ``absent`` says what no such key means.

    With ``absent`` a file without the key is refused: the class would put a window there.
    """

    def read(config: Config) -> Plan:
        figures = geo.heads(config, dialect)
        size = geo.window(config)
        if absent and "sliding_window" not in config.raw and size is None:
            config.refuse(f"sliding_window is missing, null where there is none; {absent}")
        types = config.words("layer_types")
        if types is not None and set(types) != {SLIDING if size else FULL}:
            config.refuse("layer_types and sliding_window contradict each other")
        layer = (geo.sliding(config, figures) if size else geo.full(figures),)
        return uniform(config, layer, draft=drafts(config, MTP))

    return read


def hybrid_window(
    rule: Rule | None = None,
    dialect: Dialect = DENSE,
    pattern: tuple[str, ...] = (),
    every: int | None = None,
) -> Reader:
    """Sliding and full layers mixed: ``layer_types``, else a pattern key, else the class's rule."""

    def read(config: Config) -> Plan:
        figures = geo.heads(config, dialect)
        layers = layer_count(config)
        draft = drafts(config, MTP)
        given = pattern_rule(config, *pattern) if pattern else None
        fallback = given or rule or (one_full_in(every) if every else None)
        types = layer_types(config, layers, fallback, draft)
        if given is not None:
            agree(config, pattern[0], types, given)
        config.ignore(*geo.WINDOW_KEYS)
        caches = by_type(
            config,
            types,
            {
                FULL: lambda: (geo.full(figures),),
                SLIDING: lambda: (geo.sliding(config, figures),),
            },
        )
        return Plan(caches, layers.origin)

    return read


def pattern_rule(config: Config, *keys: str) -> Rule | None:
    """Gemma's and Cohere's ``sliding_window_pattern``: a period, or EXAONE-4's "LLLG"."""
    key, value = config.value(*keys)
    if not key:
        return None
    if isinstance(value, str):
        if not value or set(value) - {"L", "G"}:
            config.refuse(f"{config.name(key)} is {shown(value)}; known are L and G")
        return lambda index: SLIDING if value[index % len(value)] == "L" else FULL
    return one_full_in(config.within(key, value, 1, 1_000))


def qwen_window(dialect: Dialect = DENSE) -> Reader:
    """``use_sliding_window`` switches it after ``max_window_layers`` full layers (Qwen2Config)."""

    def read(config: Config) -> Plan:
        figures, layers = geo.heads(config, dialect), layer_count(config)
        draft = drafts(config, MTP)
        if not config.flag("use_sliding_window"):
            config.ignore("sliding_window")
            return _all_full(config, figures, layers, draft)
        start = config.count("max_window_layers", least=0)
        rule: Rule = lambda index: SLIDING if index >= start else FULL  # noqa: E731
        types = layer_types(config, layers, rule)
        return Plan(
            by_type(
                config,
                types,
                {
                    FULL: lambda: (geo.full(figures),),
                    SLIDING: lambda: (geo.sliding(config, figures),),
                },
            ),
            layers.origin,
        )

    return read


def _all_full(config: Config, figures: Heads, layers: Figure, draft: int) -> Plan:
    types = layer_types(config, layers, lambda _: FULL)
    if set(types) != {FULL}:
        config.refuse("use_sliding_window is off, but layer_types names other layers")
    layer = (geo.full(figures),)
    return Plan((layer,) * layers, layers.origin, (layer,) * draft)


def unsettled_window(dialect: Dialect = DENSE) -> Reader:
    """``use_sliding_window`` off as in all published files; on, classes differ on what slides.

    Qwen2MoeConfig windows every second of the first ``max_window_layers`` layers, Qwen3MoeConfig
    all layers, SmolLM3Config those with rotary embeddings, and vLLM 0.33.0 none of these.
    """

    def read(config: Config) -> Plan:
        if config.flag("use_sliding_window"):
            config.refuse("use_sliding_window is on; runtimes disagree on which layers then slide")
        return qwen_window(dialect)(config)

    return read


def gemma3(config: Config) -> Plan:
    """One full layer in six (Gemma3TextConfig); bidirectional use halves the window."""
    config.require("use_bidirectional_attention", False)
    # The class's head_dim is a constant, 256, and not hidden over heads.
    dialect = replace(DENSE, head_dim_absent="refuse")
    pattern = ("sliding_window_pattern", "_sliding_window_pattern")
    return hybrid_window(every=6, dialect=dialect, pattern=pattern)(config)


def gemma3n(config: Config) -> Plan:
    """The last ``num_kv_shared_layers`` read an earlier layer's cache (Gemma3nTextConfig)."""
    figures, layers = geo.heads(config, OWN_HEAD_DIM), layer_count(config)
    types = layer_types(config, layers, one_full_in(5))
    caches = by_type(
        config,
        types,
        {
            FULL: lambda: (geo.full(figures),),
            SLIDING: lambda: (geo.sliding(config, figures),),
        },
    )
    config.ignore("hidden_size_per_layer_input", "vocab_size_per_layer_input")
    return Plan(_last_shared(config, caches, [figures] * layers, types), layers.origin)


def gemma4(config: Config) -> Plan:
    """Full layers have ``global_head_dim`` and, with ``attention_k_eq_v``, fewer KV heads.

    Keys and values are both cached even so: one is rotated, the other is not
    (modeling_gemma4.py:1222-1236).
    """
    config.require("use_bidirectional_attention", False, "vision")
    config.ignore("hidden_size_per_layer_input", "vocab_size_per_layer_input")
    layers, local = layer_count(config), geo.heads(config, OWN_HEAD_DIM)
    types = layer_types(config, layers, None)
    if types[-1] != FULL:
        config.refuse("the last layer is not full attention, as the class makes it")
    wide = _global_heads(config, local, types)
    caches = by_type(
        config,
        types,
        {
            FULL: lambda: (geo.full(wide),),
            SLIDING: lambda: (geo.sliding(config, local),),
        },
    )
    figures = [wide if kind == FULL else local for kind in types]
    return Plan(_last_shared(config, caches, figures, types), layers.origin)


def _global_heads(config: Config, local: Heads, types: Sequence[str]) -> Heads:
    """Heads of the full layers; transformers 5.23.0 saves them as ``per_layer_config``."""
    section = config.section("per_layer_config")
    few = config.maybe("num_global_key_value_heads")
    if section is None:
        wide = {**local, "head_dim": config.count("global_head_dim")}
        if config.flag("attention_k_eq_v") and few is not None:
            wide["num_key_value_heads"] = few
        return wide
    config.ignore("global_head_dim", "attention_k_eq_v")
    # transformers pads the indices with zeros: "05", "11".
    section = replace(section, raw={key.lstrip("0") or "0": v for key, v in section.raw.items()})
    indices = [str(index) for index, kind in enumerate(types) if kind == FULL]
    entries = [section.raw[index] for index in indices if index in section.raw]
    if set(section.raw) != set(indices) or any(entry != entries[0] for entry in entries):
        config.refuse("per_layer_config is not the same for all full layers, and for these alone")
    first = section.section(indices[0])
    if first is None or set(first.raw) - {"head_dim", "num_key_value_heads"}:
        config.refuse("per_layer_config changes more than head_dim and num_key_value_heads")
    kv = first.maybe("num_key_value_heads")
    return {
        **local,
        "head_dim": first.count("head_dim"),
        **({"num_key_value_heads": kv} if kv else {}),
    }


def _last_shared(
    config: Config, caches: tuple[Layer, ...], figures: list[Heads], types: Sequence[str]
) -> tuple[Layer, ...]:
    """The layers with the last ``num_kv_shared_layers`` owning no cache."""
    shared = config.count("num_kv_shared_layers", least=0)
    own = len(caches) - shared
    if shared and (own < 1 or set(types[:own]) != set(types)):
        config.refuse("num_kv_shared_layers leaves no layer of each type to share from")
    reading = [(cache("kv_shared", **heads),) for heads in figures[own:]]
    return (*caches[:own], *reading)


def llama4(config: Config) -> Plan:
    """Every ``no_rope_layer_interval``-th layer is full, the rest chunked (Llama4TextConfig)."""
    figures, layers = geo.heads(config), layer_count(config)
    rotary = config.per_layer("no_rope_layers", config.numbers("no_rope_layers") or None, layers)
    period = config.maybe("no_rope_layer_interval") or 4
    rule = one_full_in(period, "chunked_attention")
    if rotary is not None:
        rule = lambda index: "chunked_attention" if rotary[index] else FULL  # noqa: E731
    types = layer_types(config, layers, rule)
    if rotary is not None:
        agree(config, "no_rope_layers", types, rule)
    return Plan(
        by_type(
            config,
            types,
            {
                FULL: lambda: (geo.full(figures),),
                "chunked_attention": lambda: (_chunked(config, figures),),
            },
        ),
        layers.origin,
    )


def _chunked(config: Config, figures: Heads) -> tuple[tuple[str, Any], ...]:
    size = config.count("attention_chunk_size", most=MAX_TOKENS)
    return cache("chunked_local", **figures, attention_chunk_size=size)


def mllama(config: Config) -> Plan:
    """``cross_attention_layers`` keep the image's keys and values and none of the text's."""
    figures, layers = geo.heads(config), layer_count(config)
    crossed = config.numbers("cross_attention_layers")
    if crossed is None:
        config.missing("cross_attention_layers")
    if len(set(crossed)) != len(crossed) or not all(0 <= i < layers for i in crossed):
        config.refuse("cross_attention_layers names a layer twice, or one that does not exist")
    tokens = _image_tokens(config)
    seen = (cache("cross_attention", **figures, encoder_tokens=tokens),)
    text = (geo.full(figures),)
    return Plan(tuple(seen if i in set(crossed) else text for i in range(layers)), layers.origin)


def _image_tokens(config: Config) -> Figure:
    """Tiles times patches and one class token: 4 x 1601 (modeling_mllama.py MllamaVisionModel)."""
    vision = config.outer.section("vision_config") if config.outer else None
    if vision is None:
        config.refuse("vision_config is missing, which says how long an image is")
    size, patch = vision.count("image_size"), vision.count("patch_size")
    tiles = vision.count("max_num_tiles", most=1_000)
    side = geo.quotient(config, size, patch)
    working = f"{tiles.origin} × (({side.origin})² + 1)"
    return Figure(tiles * (side**2 + 1), working)


def whisper(config: Config) -> Plan:
    """Decoder layers keep their own text and, once, the encoder's ``max_source_positions``."""
    figures = geo.heads(
        config, Dialect(("decoder_attention_heads",), ("d_model",), (), (), kv_absent="heads")
    )
    frames = config.count("max_source_positions", most=MAX_TOKENS)
    crossed = cache("cross_attention", **figures, encoder_tokens=frames)
    config.ignore("num_hidden_layers", "encoder_layers", "is_encoder_decoder")
    return uniform(config, (geo.full(figures), crossed), "decoder_layers")
