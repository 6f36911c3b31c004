"""Sections beside the text model: which of them generate, and so keep a cache of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.hf.architecture import keys_of_caches
from kvplan.hf.class_defaults import ClassDefaults
from kvplan.hf.config import MAX_LAYERS, MAX_SIZE, Config, printable, shown
from kvplan.hf.file_levels import ENCODERS, HEADS, LAYERS, levels_to
from kvplan.hf.quantization import SECTIONS

_GENERATES = re.compile(
    r"talker|predictor|decoder|(^|_)tts|generator|(^|_)llm|language_model|(^|_)gpt", re.IGNORECASE
)
"""Sections of models that write one token after the other (Qwen-Omni's talker and its code
predictor, CSM's and Moshi's depth decoders, MiniCPM-o's speech model)."""

_CERTAIN = re.compile(r"talker|code_predictor|depth_decoder|(^|_)tts", re.IGNORECASE)
"""Those that generate whatever their section leaves to the class."""

_OF_NO_CACHE = re.compile(
    rf"{ENCODERS.pattern}|rope|quant|auto_map|task_specific|generation|id2|2id|pruned|lora|dual_chunk",
    re.IGNORECASE,
)
"""Sections that say nothing of a cache; that of a quantiser is read by itself. Qwen2.5-1M's
dual_chunk_attention_config says which positions are given to keys that are all kept."""

_PER_FRAME = re.compile(r"code_predictor|depth_decoder", re.IGNORECASE)
_SWITCHES = {"talker_config": "enable_audio_output"}
"""Flags that leave a section's model out (transformers 5.24.0 Qwen3OmniMoeConfig)."""

_LAYERS = (*LAYERS, "decoder_layers")
_HEADS = (*HEADS, "decoder_attention_heads")
_DEPTH = 5
_MOST = 8  # sections that are named: files have two


def caches_beside(top: Config, text: Config) -> list[str]:
    """A sentence for every section that generates, or may, beside the text model.

    Engines serve these as models of their own, so that the text model's bytes stay what they are.
    """
    notes: list[str] = []
    for config, key, section in _unread_sections(top, text):
        if config.raw.get(_SWITCHES.get(key, "")) is not False:
            notes += _notes(config, key, section)
    return notes[:_MOST]


def refuse_unread_sections(top: Config, text: Config) -> None:
    """Refuses keys of a cache in sections that nobody read and that are no model of their own."""
    for config, key, section in _unread_sections(top, text):
        if key in SECTIONS or _OF_NO_CACHE.search(key) or _notes(config, key, section):
            continue
        for inner in keys_of_caches(section):
            name = printable(f"{config.name(key)}.{inner}")
            config.refuse(
                f"{name} is {shown(section[inner])}: a key that can change the cache, in a section "
                "that this architecture is not known to have"
            )


def _unread_sections(top: Config, text: Config) -> Iterator[tuple[Config, str, Mapping[str, Any]]]:
    """Every object beside the text model's section, or in it, that its reader did not look at."""
    path, steps = levels_to(top, text), text.prefix.split(".")
    for index, config in enumerate(path):
        inner = steps[index] if index < len(path) - 1 else None
        for key, value in config.raw.items():
            if (
                isinstance(value, dict)
                and key != inner
                and not (config is text and key in text.read)
            ):
                yield config, key, value


def _notes(config: Config, key: str, section: Mapping[str, Any]) -> list[str]:
    name = config.name(key)
    defaults = config.defaults.section(key, section.get("model_type"))
    notes = [_note(stack) for stack in _stacks(name, key, section, defaults, _DEPTH)]
    if not notes and _CERTAIN.search(key):
        notes = [f"{printable(name)} keeps a cache of its own that is not counted; {_NO_SIZE}"]
    return notes


@dataclass(frozen=True)
class _Stack:
    """An object with layers and attention heads; its class gives the figures that it lacks."""

    place: str
    figures: Mapping[str, Any]
    source: str
    """Whose defaults are among the figures that decide, "" where none are."""


def _stacks(
    name: str, key: str, section: Mapping[str, Any], defaults: ClassDefaults, depth: int
) -> Iterator[_Stack]:
    """Every object with layers and attention heads that is no encoder."""
    if ENCODERS.search(key) and not _GENERATES.search(key):
        return
    figures = {**defaults.values, **section}
    if any(map(figures.get, _LAYERS)) and any(map(figures.get, _HEADS)):
        lacks = any(key in defaults.values and key not in section for key in _DECIDING)
        yield _Stack(name, figures, defaults.source if lacks else "")
    for inner, value in section.items():
        if isinstance(value, dict) and depth:
            known = defaults.section(inner, value.get("model_type"))
            yield from _stacks(f"{name}.{inner}", inner, value, known, depth - 1)


_DECIDING = ("num_hidden_layers", "num_key_value_heads", "head_dim")
_NO_SIZE = "the file does not say how large it is"


def _note(stack: _Stack) -> str:
    place, working = printable(stack.place), _working(stack) or _NO_SIZE
    if not any(map(_GENERATES.search, stack.place.split("."))):
        return f"{place} has layers and heads: if it generates, its cache is not counted; {working}"
    frame = " for the codes of one frame" if _PER_FRAME.search(stack.place) else ""
    return f"{place} keeps a cache of its own{frame} that is not counted: {working}"


def _working(stack: _Stack) -> str | None:
    """Bytes a token in bf16 of plain full attention, or None where the keys say something else.

    Hidden size over heads is the width where the file or the class says that there is no other.
    """
    figures = stack.figures
    layers = _size(figures, "num_hidden_layers", MAX_LAYERS)
    kv, width = _size(figures, "num_key_value_heads"), _size(figures, "head_dim")
    if "head_dim" in figures and figures["head_dim"] is None:
        width = _quotient(figures, "hidden_size", "num_attention_heads")
    if layers is None or kv is None or width is None or _is_unusual(figures):
        return None
    by = f", by defaults of {stack.source}" if stack.source else ""
    return (
        f"{layers:,} layers × 2 × {kv:,} KV heads × {width:,} × 2 B = "
        f"{4 * layers * kv * width:,} B/token in bf16{by}"
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
