"""At which level of a file layers are described, and the keys that describe them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvplan.hf.config import Config, shown

LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "num_transformer_layers")
HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "num_query_heads")
KV = (
    *("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv"),
    *("num_query_groups", "num_attention_groups"),
)
WIDTH = ("head_dim", "attention_head_dim", "head_size", "kv_channels", "d_head")
VALUES = ("v_head_dim", "value_head_dim")
HIDDEN = ("hidden_size", "d_model", "n_embd", "model_dim", "dim")
WINDOW = (
    *("sliding_window", "sliding_window_size", "swa_window_size", "attention_window_size"),
    *("attention_window", "window_size", "local_attention_window", "local_window_size"),
)
STANDARD = (LAYERS, HEADS, KV, WIDTH, VALUES, HIDDEN, WINDOW, ("layer_types",))
"""Spellings of the keys that describe layers, one tuple a figure."""
ENCODERS = re.compile(
    r"vision|visual|image|(^|_)img|video|audio|speech|speaker|sound|(^|_)spk|vit(_|$)|encoder|tower|"
    r"qformer|perceiver|resampler|projector|connector|adapter|siglip|clip|whisper|aligner|"
    r"(^|_)sam|backbone|codec|vocoder|token2wav|code2wav|(^|_)vq|(^|_)dac|(^|_)dit|diffusion|flow|"
    r"(^|_)vae",
    re.IGNORECASE,
)
"""Sections of encoders and of what turns codes into a waveform: nothing is kept between tokens.
Qwen-Omni's token2wav and code2wav run over whole chunks (transformers 5.24.0)."""

_BESIDE = re.compile(
    rf"{ENCODERS.pattern}|talker|code|draft|mtp|quanti|rope|specul|eagle", re.IGNORECASE
)
"""Sections that describe another model than the language model."""

_MAX_DEPTH = 4


def sections(top: Config, depth: int = 0) -> Iterator[Config]:
    """Every level of a file that may describe the language model, the outermost first."""
    yield top
    for key, value in top.raw.items():
        inside = isinstance(value, dict) and depth < _MAX_DEPTH and not _BESIDE.search(key)
        section = top.section(key) if inside else None
        if section is not None:
            yield from sections(section, depth + 1)


def described_levels(top: Config) -> Iterator[Config]:
    """The levels of a file at which layers are described: those that have layers and heads."""
    return (level for level in sections(top) if first(level, LAYERS) and first(level, HEADS))


def text_level(top: Config) -> Config:
    """The one level that describes the layers. Raises RefusedError for none, or for two."""
    found = list(described_levels(top))
    if not found:
        top.refuse(f"no level of the file has both {LAYERS[0]} and {HEADS[0]}")
    text = found[-1]
    for other in found[:-1]:
        for keys in STANDARD:
            here, there = (first(level, keys) for level in (other, text))
            if here and there and other.raw[here] != text.raw[there]:
                top.refuse(
                    f"{other.name(here)} is {shown(other.raw[here])}, but {text.name(there)} is "
                    f"{shown(text.raw[there])}: two levels describe layers, and differ",
                )
    return text


def levels_to(top: Config, text: Config) -> list[Config]:
    """The objects around the text model's section, from the file itself down, and the section."""
    found, steps = [top], text.prefix.split(".")[:-1]
    for step in steps[:-1]:
        section = found[-1].section(step)
        found += [section] if section else []
    return [*found, text] if steps else [text]


def first(config: Config, keys: Sequence[str]) -> str | None:
    """The first of these keys that this level has, as it spells it."""
    return next((config.spelling(key) for key in keys if config.has(key)), None)


def _has_layers(section: Mapping[str, Any]) -> bool:
    return any(key in section for key in LAYERS) or any(
        isinstance(value, dict) and _has_layers(value) for value in section.values()
    )


def found_figures(top: Config) -> dict[str, Any]:
    """Standard keys of the file's layers, at whatever level they stand."""
    found = list(described_levels(top))
    return {
        level.name(level.spelling(key)): level.raw[level.spelling(key)]
        for level in found[-1:]
        for keys in STANDARD
        for key in keys
        if level.has(key)
    }


def described_sections(top: Config) -> list[str]:
    """Sections with layers of their own, of whatever model."""
    return [key for key, value in top.raw.items() if isinstance(value, dict) and _has_layers(value)]
