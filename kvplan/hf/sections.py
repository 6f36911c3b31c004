"""Sections beside the text model: which of them generate, and so keep a cache of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvplan.hf.architecture import keys_of_caches, levels
from kvplan.hf.config import MAX_LAYERS, MAX_SIZE, Config, printable, shown

_GENERATES = re.compile(
    r"talker|predictor|decoder|(^|_)tts|generator|(^|_)llm|language_model|(^|_)gpt", re.IGNORECASE
)
"""Sections of models that write one token after the other (Qwen-Omni's talker and its code
predictor, CSM's and Moshi's depth decoders, MiniCPM-o's speech model)."""

_CERTAIN = re.compile(r"talker|code_predictor|depth_decoder|(^|_)tts", re.IGNORECASE)
"""Those that generate whatever their section leaves to the class."""

_TOWER = re.compile(
    r"vision|visual|image|(^|_)img|video|audio|speech|speaker|(^|_)spk|(^|_)vit|encoder|qformer|"
    r"perceiver|resampler|projector|connector|adapter|siglip|clip|whisper|aligner|(^|_)sam|"
    r"backbone|codec|vocoder|token2wav|code2wav|(^|_)vq|(^|_)dac|(^|_)dit|diffusion|flow|(^|_)vae",
    re.IGNORECASE,
)
"""Sections of encoders and of what turns codes into a waveform: nothing is kept between tokens.
Qwen-Omni's token2wav and code2wav run over whole chunks (transformers 5.24.0)."""

_OF_NO_CACHE = re.compile(
    rf"{_TOWER.pattern}|rope|quant|auto_map|task_specific|generation|id2|2id|pruned|lora|dual_chunk",
    re.IGNORECASE,
)
"""Sections that say nothing of a cache; that of a quantiser is read by itself. Qwen2.5-1M's
dual_chunk_attention_config says which positions are given to keys that are all kept."""

_PER_FRAME = re.compile(r"code_predictor|depth_decoder", re.IGNORECASE)
_SWITCHES = {"talker_config": "enable_audio_output"}
"""Flags that leave a section's model out (transformers 5.24.0 Qwen3OmniMoeConfig)."""

_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer", "decoder_layers")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "decoder_attention_heads")
_DEPTH = 5
_MOST = 8  # sections that are named: files have two


def caches_beside(top: Config, text: Config) -> list[str]:
    """A sentence for every section that generates, or may, beside the text model.

    Engines serve these as models of their own, so that the text model's bytes stay what they are.
    """
    notes: list[str] = []
    for config, key, section in _unread_sections(top, text):
        if config.raw.get(_SWITCHES.get(key, "")) is not False:
            notes += _notes(config.name(key), key, section)
    return notes[:_MOST]


def refuse_unread_sections(top: Config, text: Config) -> None:
    """Refuses keys of a cache in sections that nobody read and that are no model of their own."""
    for config, key, section in _unread_sections(top, text):
        if _OF_NO_CACHE.search(key) or _notes(config.name(key), key, section):
            continue
        for inner in keys_of_caches(section):
            name = printable(f"{config.name(key)}.{inner}")
            config.refuse(
                f"{name} is {shown(section[inner])}: a key that can change the cache, in a section "
                "that this architecture is not known to have"
            )


def _unread_sections(top: Config, text: Config) -> Iterator[tuple[Config, str, Mapping[str, Any]]]:
    """Every object beside the text model's section, or in it, that its reader did not look at."""
    path, steps = levels(top, text), text.prefix.split(".")
    for index, config in enumerate(path):
        inner = steps[index] if index < len(path) - 1 else None
        for key, value in config.raw.items():
            if (
                isinstance(value, dict)
                and key != inner
                and not (config is text and key in text.read)
            ):
                yield config, key, value


def _notes(name: str, key: str, section: Mapping[str, Any]) -> list[str]:
    stacks = list(_stacks(name, key, section, _DEPTH))
    notes = [_note(place, stack) for place, stack in stacks]
    if not stacks and _CERTAIN.search(key):
        notes = [f"{printable(name)} keeps a cache of its own that is not counted; {_NO_SIZE}"]
    return notes


def _stacks(
    name: str, key: str, section: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object with layers and attention heads that is no encoder, with its place."""
    if _TOWER.search(key) and not _GENERATES.search(key):
        return
    if any(map(section.get, _LAYERS)) and any(map(section.get, _HEADS)):
        yield name, section
    for inner, value in section.items():
        if isinstance(value, dict) and depth:
            yield from _stacks(f"{name}.{inner}", inner, value, depth - 1)


_NO_SIZE = "the file does not say how large it is"


def _note(name: str, stack: Mapping[str, Any]) -> str:
    place = printable(name)
    working = _working(stack) or _NO_SIZE
    if not any(map(_GENERATES.search, name.split("."))):
        return f"{place} has layers and heads: if it generates, its cache is not counted; {working}"
    frame = " for the codes of one frame" if _PER_FRAME.search(name) else ""
    return f"{place} keeps a cache of its own{frame} that is not counted: {working}"


def _working(stack: Mapping[str, Any]) -> str | None:
    """Bytes a token in bf16 of plain full attention, or None where the keys say something else."""
    layers, kv = _size(stack, "num_hidden_layers", MAX_LAYERS), _size(stack, "num_key_value_heads")
    width = _size(stack, "head_dim") or _quotient(stack, "hidden_size", "num_attention_heads")
    if layers is None or kv is None or width is None or _is_unusual(stack):
        return None
    return (
        f"{layers:,} layers × 2 × {kv:,} KV heads × {width:,} × 2 B = "
        f"{4 * layers * kv * width:,} B/token in bf16"
    )


def _size(stack: Mapping[str, Any], key: str, most: int = MAX_SIZE) -> int | None:
    value = stack.get(key)
    return value if type(value) is int and 0 < value <= most else None


def _quotient(stack: Mapping[str, Any], key: str, by: str) -> int | None:
    total, parts = _size(stack, key), _size(stack, by)
    return None if not total or not parts or total % parts else total // parts


def _is_unusual(stack: Mapping[str, Any]) -> bool:
    """Whether a key speaks of anything but full attention on every layer."""
    plain = {"num_key_value_heads", "head_dim", "use_sliding_window"}
    if stack.get("use_sliding_window") is False:
        plain |= {"sliding_window"}
    types = stack.get("layer_types")
    if isinstance(types, list) and all(kind == "full_attention" for kind in types):
        plain |= {"layer_types"}
    return bool(set(keys_of_caches(stack)) - plain)
