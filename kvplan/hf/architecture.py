"""Which family a config.json belongs to, and which level of it describes the text model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from kvplan.errors import RefusedError
from kvplan.hf.blocks.base import Model
from kvplan.hf.class_defaults import class_defaults
from kvplan.hf.class_names import LANGUAGE_MODEL, ClassName, Task, class_name, names_model
from kvplan.hf.config import Config, Word, printable, shown
from kvplan.hf.families import ARCHITECTURES, DRAFTS, FAMILIES, WRAPPERS
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.file_levels import levels_to, sections


class UnknownArchitectureError(RefusedError):
    """No reader for this model type: ``--assume`` may stand in for one."""


@dataclass(frozen=True)
class Architecture:
    """The family of a file, the level of its text model, and the wrapper around that.

    ``task`` is what the file's class has after the layers.
    """

    family: Family
    text: Config
    wrapper: Wrapper | None = None
    task: Task = LANGUAGE_MODEL


_PARAMS_KEYS = {"dim", "n_layers", "n_heads"}
"""Keys of a params.json of Mistral's, which names no model type."""
_GEOMETRY_KEYS = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")

# Keys that change a cache in some family. One that the family's reader did not look at is a
# question that nobody has answered.
_CACHE_KEYS = re.compile(
    r"sliding|window|^layer_types$|^block_types$|layers_block|attn_type|attention_types?$|"
    r"attn_layer|layer_group|hybrid|(^|_)kv_|_kv(_|$)|cla_share|use_cla|(^|_)mla|kv_lora|compress_ra|"
    r"^index_(head|kpool|topk)|^indexer|^linear_(attn|num|key|value|head|conv)|mamba_(d|n|num|head)_|"
    r"ssm_state|conv_(l_cache|kernel)|conv1d|attention_chunk|cross_attention_layers|full_att|"
    r"global_(att|head|num)|num_global|^swa_|sparse_att|block_configs|per_layer_config|key_value_heads|"
    r"kv_heads|multi_query|^attn_config|head_dim$|state_size|^local_|recurrent|^lru_|"
    r"attention_other|heads_per_layer|is_encoder_decoder|add_cross_attention|cross_layer|"
    r"^sparse_config|^nsa_|moba|^dsa_|yoco|num_loops|ut_steps|attention_pattern|"
    r"(skip|no)_attention|query_groups|head_groups|gqa_group|use_(mqa|gqa)|^head_size$|^d_head$|"
    r"cache_dtype|use_swa|(global|share)_every|attn_period|(ssm|mamba|rnn)_layers|recurrences|"
    r"(^|_)loops?$|(hash|topk)_attention|memory_blocks",
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
    "kv_cache_dtype": "auto",
}
_OTHERS = re.compile(r"(vision|visual|image|video|audio|mm|vit|projector)_", re.IGNORECASE)
"""Keys at the top of a file that speak of something else than the text model."""
_SAME_AS = {
    *("num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads", "num_query_groups"),
    *("head_dim", "head_size", "kv_channels", "attention_head_dim"),
}


def architecture_name(raw: dict[str, Any]) -> str:
    """What the file calls itself, for messages."""
    if _is_params(raw):
        return "Mistral's own form"
    names = raw.get("architectures")
    first = names[0] if isinstance(names, list) and names else raw.get("model_type")
    return printable(first) if isinstance(first, str) and first else "no architecture named"


def named_class(top: Config) -> Word | None:
    """The first of the file's ``architectures``; None where it names none."""
    names = top.raw.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    return Word(printable(first), "architectures") if isinstance(first, str) and first else None


def _is_params(raw: dict[str, Any]) -> bool:
    return raw.keys() >= _PARAMS_KEYS and raw.keys().isdisjoint({"model_type", "architectures"})


def architecture(top: Config) -> Architecture:
    """The file's family. Raises UnknownArchitectureError where nothing reads it."""
    name = _class(top)
    if name is not None and name.name in DRAFTS:
        return Architecture(DRAFTS[name.name], top)
    if name is not None and name.name in ARCHITECTURES:
        model_type = ARCHITECTURES[name.name]
        top.defaults = class_defaults(model_type)
        return Architecture(FAMILIES[model_type], top, WRAPPERS.get(_type(top)))
    if _is_params(top.raw):
        return Architecture(FAMILIES["transformer"], top)
    model_type = _known(top, top.word("model_type"), name)
    wrapper, task = WRAPPERS.get(model_type), _task(top, name)
    top.defaults = class_defaults(model_type)
    if wrapper is None or (wrapper.optional and not top.has(wrapper.path[0])):
        return Architecture(_as_saved(FAMILIES[model_type], name), top, wrapper, task)
    text = _nested(top, wrapper)
    if wrapper.optional:
        _refuse_disagreement(top, text)
    inner = text.word("model_type") or wrapper.text or _section_type(text, wrapper)
    inner = _known(text, inner, _class(text), nested=True)
    around = text.outer or top
    text = replace(text, outer=top, defaults=around.defaults.section(wrapper.path[-1], inner))
    return Architecture(FAMILIES[inner], text, wrapper, task)


def wrapped(top: Config) -> Architecture | None:
    """The text part of a wrapper that is not known, where its own model type is read.

    Raises RefusedError where its class is that of another model.
    """
    inside = [level for level in sections(top) if level.prefix and _type(level) in FAMILIES]
    if len(inside) != 1:
        return None
    text = inside[0]
    model_type = _known(text, _type(text), _class(text), nested=True)
    text = replace(text, outer=top, read=set(), defaults=class_defaults(model_type))
    return Architecture(FAMILIES[model_type], text, Wrapper())


def _section_type(text: Config, wrapper: Wrapper) -> str | None:
    """The text part's model type where the class around it has one."""
    return text.outer.defaults.section_type(wrapper.path[-1]) if text.outer else None


def _class(config: Config) -> ClassName | None:
    """The class that this level of the file names first."""
    names = config.words("architectures")
    return class_name(names[0]) if names else None


def _task(top: Config, name: ClassName | None) -> Task:
    """What the class has after the layers. Raises RefusedError for an ending that is not known."""
    if name is None:
        return LANGUAGE_MODEL
    if name.task is None:
        _unknown(
            top,
            f"architectures names {shown(name.name)}: what a class that ends in "
            f"{shown(name.ending)} changes of the model is not known",
        )
    return name.task


def _as_saved(family: Family, name: ClassName | None) -> Family:
    """The family as transformers saves it anew, under the class of another."""
    read = family.saved_as.get(name.stem) if name is not None else None
    return family if read is None else replace(family, read=read)


def _type(top: Config) -> str:
    return str(top.raw.get("model_type"))


def _nested(top: Config, wrapper: Wrapper) -> Config:
    text, path = top, wrapper.path
    if wrapper.or_path and not top.has(path[0]) and top.has(wrapper.or_path[0]):
        path = wrapper.or_path
    for step in path:
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
    config: Config, model_type: str | None, name: ClassName | None, *, nested: bool = False
) -> str:
    """The model type where a reader exists for it and ``architectures`` says the same."""
    known = FAMILIES.keys() if nested else FAMILIES.keys() | WRAPPERS.keys()
    if not model_type or str(model_type) not in known:
        _refuse_unknown(config, model_type)
    if name is not None and not _same_model(str(model_type), name):
        _unknown(
            config,
            f"model_type is {shown(str(model_type))}, but architectures names "
            f"{shown(name.name)}: a model that changes another's code may change its cache",
        )
    return str(model_type)


def _refuse_unknown(config: Config, model_type: str | None) -> NoReturn:
    what = f"model_type {shown(str(model_type))}" if model_type else "no model_type"
    _unknown(config, f"{what}: this architecture is not known")


def _unknown(config: Config, problem: str) -> NoReturn:
    raise UnknownArchitectureError(f"{config.path}: {config.architecture}: {problem}")


def _same_model(model_type: str, name: ClassName) -> bool:
    rows = (FAMILIES.get(model_type), WRAPPERS.get(model_type))
    classes = [other for row in rows if row is not None for other in row.classes]
    saved = FAMILIES[model_type].saved_as if model_type in FAMILIES else {}
    return name.stem in saved or names_model(name, model_type, classes)


def cache_keys(config: Config) -> dict[str, Any]:
    """Keys that change a cache in some family, that are set, and that nobody has read."""
    return {key: config.raw[key] for key in keys_of_caches(config.raw) if key not in config.read}


def refuse_unread(top: Config, found: Architecture, model: Model) -> None:
    """Refuses what changes a cache in some family and what this one's reader did not read.

    That is keys of a cache in the text model's section and in the objects around it, and lists
    with an entry for every layer.
    """
    refuse_unread_text(found.text, model)
    for around in levels_to(top, found.text)[:-1]:
        around.ignore(*(found.wrapper.own_keys if found.wrapper else ()))
        _refuse_around(around, found.text, _used(model), model)


def _used(model: Model) -> set[Any]:
    return {value for layer in model.caches() for cache in layer for _, value in cache}


def refuse_unread_text(text: Config, model: Model) -> None:
    """The same of the text model's section alone."""
    used = _used(model)
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


def _says_nothing(key: str, value: object, used: set[Any]) -> bool:
    """Whether the value changes no cache: it is off, or what the model has anyway."""
    if value in (None, False, 0, "", [], {}) or _HARMLESS.fullmatch(key):
        return True
    if key in _HARMLESS_VALUES:
        harmless = _HARMLESS_VALUES[key]
        return type(value) is type(harmless) and value == harmless
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
