"""Which family a config.json belongs to, and which level of it describes the text model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from kvplan.errors import RefusedError
from kvplan.hf.blocks.base import Model
from kvplan.hf.class_defaults import class_defaults
from kvplan.hf.config import HINT, Config, printable, shown
from kvplan.hf.families import ARCHITECTURES, FAMILIES, WRAPPERS
from kvplan.hf.families.base import Family, Wrapper


class UnknownArchitectureError(RefusedError):
    """No reader for this model type: ``--assume`` may stand in for one."""


@dataclass(frozen=True)
class Architecture:
    """The family of a file, the level of its text model, and the wrapper around that."""

    family: Family
    text: Config
    wrapper: Wrapper | None = None


_PARAMS_KEYS = {"dim", "n_layers", "n_heads"}
"""Keys of a params.json of Mistral's, which names no model type."""
_GEOMETRY_KEYS = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")

# Keys that change a cache in some family. One that the family's reader did not look at is a
# question that nobody has answered.
_CACHE_KEYS = re.compile(
    r"sliding|window|^layer_types$|^block_types$|layers_block|attn_type|attention_types?$|"
    r"attn_layer|hybrid|(^|_)kv_|_kv(_|$)|cla_share|use_cla|(^|_)mla|kv_lora|compress_ra|"
    r"^index_(head|kpool|topk)|^indexer|^linear_(attn|num|key|value|head|conv)|mamba_(d|n|num|head)_|"
    r"ssm_state|conv_(l_cache|kernel)|conv1d|attention_chunk|cross_attention_layers|full_att|"
    r"global_(att|head|num)|num_global|^swa_|sparse_att|block_configs|per_layer_config|key_value_heads|"
    r"kv_heads|multi_query|^attn_config|head_dim$|state_size|^local_|recurrent|^lru_|"
    r"attention_other|heads_per_layer|is_encoder_decoder|add_cross_attention|cross_layer|"
    r"^sparse_config|^nsa_|moba|^dsa_|yoco|num_loops|ut_steps|attention_pattern|"
    r"(skip|no)_attention|num_query_groups|^head_size$|^d_head$|cache_dtype",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"max_window_layers|mamba_dt.*|mamba_d_rank|.*sink_bias|layernorm_.*_attention_.*|"
    r"rope_local.*|local_rope.*|local_files.*|.*rope_theta|.*rope.*freq.*|local_rank|"
    r"(full|linear)_attn_(alpha|beta)_factor|num_attention_heads|qk_head_dim|mla_use_.*|window_attn.*skip|.*_loss.*",
    re.IGNORECASE,
)
# Lists with an entry for every layer that change weights or positions and no cache.
_HARMLESS_LISTS = re.compile(
    r"rope|rotary|theta|mlp|moe|expert|dense|intermediate|ffn|feed_forward|gat(e|ing)|router|norm|"
    r"activation|hidden_act|sparsity|dropout|scal|multiplier|residual|topk|token|quant|lora",
    re.IGNORECASE,
)
_FEWEST_LISTED_LAYERS = 4
"""Shorter lists have as many entries as there are layers by chance (``eos_token_id``)."""
_HARMLESS_VALUES: dict[str, object] = {
    # Every full_attn_mod-th layer would be full. In all files of Phi-4-mini and -multimodal; read
    # by neither transformers 5.24.0 (Phi3Config) nor vLLM 0.33.0.
    "full_attn_mod": 1,
}
_OTHERS = re.compile(r"(vision|visual|image|video|audio|mm|vit|projector)_", re.IGNORECASE)
"""Keys at the top of a file that speak of something else than the text model."""
_SAME_AS = {"num_key_value_heads", "num_kv_heads", "n_head_kv", "head_dim"}


def architecture_name(raw: dict[str, Any]) -> str:
    """What the file calls itself, for messages."""
    if _is_params(raw):
        return "Mistral's own form"
    names = raw.get("architectures")
    first = names[0] if isinstance(names, list) and names else raw.get("model_type")
    return printable(first) if isinstance(first, str) and first else "no architecture named"


def _is_params(raw: dict[str, Any]) -> bool:
    return raw.keys() >= _PARAMS_KEYS and raw.keys().isdisjoint({"model_type", "architectures"})


def architecture(top: Config) -> Architecture:
    """The file's family. Raises UnknownArchitectureError where nothing reads it."""
    classes = top.words("architectures") or []
    for name in classes[:1]:
        if name in ARCHITECTURES:
            model_type = ARCHITECTURES[name]
            top.defaults = class_defaults(model_type)
            return Architecture(FAMILIES[model_type], top, WRAPPERS.get(_type(top)))
    if _is_params(top.raw):
        return Architecture(FAMILIES["transformer"], top)
    model_type = _known(top, top.word("model_type"), classes)
    wrapper, top.defaults = WRAPPERS.get(model_type), class_defaults(model_type)
    if wrapper is None or (wrapper.optional and not top.has(wrapper.path[0])):
        return Architecture(FAMILIES[model_type], top, wrapper)
    text = _nested(top, wrapper)
    if wrapper.optional:
        _refuse_disagreement(top, text)
    inner = text.word("model_type") or wrapper.text or _section_type(text, wrapper)
    inner = _known(text, inner, text.words("architectures") or [], nested=True)
    text = replace(text, outer=top, defaults=class_defaults(inner))
    return Architecture(FAMILIES[inner], text, wrapper)


def _section_type(text: Config, wrapper: Wrapper) -> str | None:
    """The text part's model type where the class around it has one."""
    return text.outer.defaults.section_type(wrapper.path[-1]) if text.outer else None


def _type(top: Config) -> str:
    return str(top.raw.get("model_type"))


def _nested(top: Config, wrapper: Wrapper) -> Config:
    text = top
    for step in wrapper.path:
        nested = text.section(step)
        if nested is None:
            text.missing(step)
        text = nested
    return text


def _refuse_disagreement(top: Config, text: Config) -> None:
    """Figures of a cache that stand at both levels of the file, and differ."""
    for key, value in top.raw.items():
        matters = key in _GEOMETRY_KEYS or (_CACHE_KEYS.search(key) and not _HARMLESS.match(key))
        if matters and value is not None and text.raw.get(key) != value:
            top.refuse(
                f"{key} is {shown(value)}, but {text.name(key)} is {shown(text.raw.get(key))}"
            )


def _known(
    config: Config, model_type: str | None, classes: Sequence[str], *, nested: bool = False
) -> str:
    """The model type where a reader exists for it and ``architectures`` says the same."""
    known = FAMILIES.keys() if nested else FAMILIES.keys() | WRAPPERS.keys()
    if not model_type or str(model_type) not in known:
        _refuse_unknown(config, model_type)
    for name in classes[:1]:
        if not _same_model(str(model_type), name):
            config.refuse(
                f"model_type is {shown(str(model_type))}, but architectures names {shown(name)}: "
                "a model that changes another's code may change its cache"
            )
    return str(model_type)


def _refuse_unknown(config: Config, model_type: str | None) -> NoReturn:
    missing = [key for key in _GEOMETRY_KEYS if not config.has(key)]
    looked = (
        f"; looked for and not found: {', '.join(map(config.name, missing))}" if missing else ""
    )
    what = f"model_type {shown(str(model_type))}" if model_type else "no model_type"
    hint = HINT
    if not missing:
        figures = ", ".join(f"{key}: {shown(config.raw[key])}" for key in _GEOMETRY_KEYS[1:])
        hint += f"; if every layer is ordinary full attention, this file's figures are {figures}"
    problem = f"{what}: this architecture is not known{looked}"
    raise UnknownArchitectureError(f"{config.path}: {config.architecture}: {problem}", hint)


def _same_model(model_type: str, class_name: str) -> bool:
    stem = re.sub(r"(For[A-Z].*|LMHeadModel|Model)$", "", class_name)
    plain = _plain(model_type)
    rows = (FAMILIES.get(model_type), WRAPPERS.get(model_type))
    others = [name for row in rows if row is not None for name in row.classes]
    names = {plain, plain.removesuffix("text"), *others}
    return _plain(stem) in names | {name.removesuffix("lmhead") for name in names}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def refuse_unread(top: Config, found: Architecture, model: Model) -> None:
    """Refuses what changes a cache in some family and what this one's reader did not read.

    That is keys of a cache in the text model's section and in the objects around it, and lists
    with an entry for every layer.
    """
    text, own = found.text, found.wrapper.own_keys if found.wrapper else ()
    used = {value for layer in model.caches() for cache in layer for _, value in cache}
    for key, value in text.raw.items():
        if key in text.read or _says_nothing(key, value, used):
            continue
        if _CACHE_KEYS.search(key):
            text.refuse(
                f"{text.name(printable(key))} is {shown(value)}: a key that can change the cache, "
                "and one that this architecture is not known to have"
            )
        if _is_per_layer(key, value, model):
            text.refuse(
                f"{text.name(printable(key))} has an entry for each of {len(value)} layers, and "
                "what it says of them is not known"
            )
    for around in levels(top, text)[:-1]:
        around.ignore(*own)
        _refuse_around(around, text, used, model)


def levels(top: Config, text: Config) -> list[Config]:
    """The objects around the text model's section, from the file itself down, and the section."""
    found, steps = [top], text.prefix.split(".")[:-1]
    for step in steps[:-1]:
        section = found[-1].section(step)
        found += [section] if section else []
    return [*found, text] if steps else [text]


def _says_nothing(key: str, value: object, used: set[Any]) -> bool:
    """Whether the value changes no cache: it is off, or what the model has anyway."""
    if value in (None, False, 0, "", [], {}) or _HARMLESS.fullmatch(key):
        return True
    if key in _HARMLESS_VALUES:
        return type(value) is int and value == _HARMLESS_VALUES[key]
    return key in _SAME_AS and type(value) is int and value in used


def _is_per_layer(key: str, value: object, model: Model) -> bool:
    """Whether it is a list with an entry for every layer, those of a draft at its end or not."""
    layers = len(model.layers)
    return (
        isinstance(value, list)
        and len(value) in (layers, layers + len(model.draft))
        and layers >= _FEWEST_LISTED_LAYERS
        and not _HARMLESS_LISTS.search(key)
    )


def _refuse_around(around: Config, text: Config, used: set[Any], model: Model) -> None:
    """Refuses keys of a cache around the text model that its own section does not repeat."""
    for key, value in around.raw.items():
        matters = _CACHE_KEYS.search(key) or _is_per_layer(key, value, model)
        if not matters or _OTHERS.match(key) or key in around.read:
            continue
        if not _says_nothing(key, value, used) and text.raw.get(key) != value:
            around.refuse(
                f"{around.name(printable(key))} is {shown(value)}, but "
                f"{text.name(printable(key))} is {shown(text.raw.get(key))}"
            )


def keys_of_caches(section: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a section that change a cache in some family, and are not off."""
    for key, value in section.items():
        if _CACHE_KEYS.search(key) and not _says_nothing(key, value, set()):
            yield key
