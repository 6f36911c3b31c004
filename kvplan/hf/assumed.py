"""What ``--assume`` puts in the place of an architecture that is not known: caches, no weights.

The level of the file is looked for at which the layers are described, and standard keys are taken
there under every spelling that files use. What says that a layer keeps something else, or that
layers have two shapes, is refused; what is left aside is named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvplan.errors import RefusedError, UsageError
from kvplan.hf import geometry as geo
from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, uncounted_layers
from kvplan.hf.class_defaults import NO_CLASS
from kvplan.hf.config import HINT, MAX_SIZE, MAX_TOKENS, Config, Figure, printable, shown
from kvplan.hf.families.latent import mla
from kvplan.hf.file_levels import (
    HEADS,
    HIDDEN,
    KV,
    LAYERS,
    VALUES,
    WIDTH,
    WINDOW,
    described_levels,
    described_sections,
    first,
    found_figures,
    text_level,
)
from kvplan.hf.layers import FULL, SLIDING, layer_count

_UNKNOWN = "no count of an architecture that is not known"
CHUNKED = "chunked_attention"
_WORDS = (FULL, SLIDING, CHUNKED)

# Something else is kept than keys and values of every layer, or beside them.
_OTHER_CACHES = re.compile(
    r"^mamba_|^ssm_|^linear_(num|conv|attn|key|value)|^full_attention_interval|^layers_block_type|"
    r"^hybrid_override_pattern|^block_types|^attn_layer_(period|indices|offset)|^full_attn_idxs|"
    r"recurrent|^lru_|^rwkv|^kda_|^gla_|^index_(head|n_heads|topk|k)|^indexer|compress_ra|"
    r"^cross_attention|^is_encoder_decoder|^add_cross_attention|^block_configs",
    re.IGNORECASE,
)
# Which layers slide: with one of these not every layer does.
_CHOOSES = re.compile(r"layer_ids|pattern|every|max_window|global_|interval|no_rope", re.IGNORECASE)
_SHAPES = re.compile(r"^(num_)?(swa|sliding|local|global|full)_(num_)?(\w*(heads|head_dim))$")
_KV_LIKE = re.compile(r"kv|key_value|multi_query|(query|attention)_groups?$|gqa", re.IGNORECASE)


@dataclass(frozen=True)
class Assumed:
    """A model by assumption, the level of the file it came from, and what has to be said."""

    text: Config
    model: Model
    notes: tuple[str, ...]
    left: Mapping[str, Any]
    """Keys that can change a cache and that it did not use."""


CacheKeys = Callable[[Config], Mapping[str, Any]]
"""The keys of a level that change a cache in some family and that nobody has read."""


def assumable(kind: str) -> str:
    """The kind, which deployments may write as ``kind=KIND``. Raises UsageError for no such one."""
    kind = kind.removeprefix("kind=")
    if kind not in (*KINDS, TEXT_CONFIG):
        names = ", ".join((*KINDS, TEXT_CONFIG))
        raise UsageError(f"--assume kind={kind[:100]} is not possible", f"one of: {names}")
    return kind


def assumed(top: Config, kind: str, cache_keys: CacheKeys) -> Assumed:
    """Every layer keeps this kind, or what ``layer_types`` says of it.

    Raises RefusedError where the file says otherwise or lacks a figure.
    """
    text = text_level(top)
    text = replace(text, read=set(), defaults=NO_CLASS)
    _refuse_other_caches(text)
    count = layer_count(text, *LAYERS)
    layers = KINDS[kind](text, count)
    model = Model(
        layers=tuple(layers),
        layers_key=count.origin,
        hidden=lambda: 0,
        others=uncounted_layers(_UNKNOWN),
        ends=tuple,
    )
    around = [top] if text.prefix else []
    left = {
        level.name(key): value
        for level in (text, *around)
        for key, value in cache_keys(level).items()
    }
    return Assumed(text, model, tuple(_notes(top, text, kind, model, left)), left)


def _refuse_other_caches(text: Config) -> None:
    for key, value in text.raw.items():
        if value and _OTHER_CACHES.search(key):
            text.refuse(
                f"{text.name(printable(key))} is {shown(value)}: not every layer keeps keys and "
                "values alone, and no kind can be assumed for all",
            )


def _full_attention(text: Config, count: Figure) -> list[Layer]:
    """Windows are left aside, and named: what an engine without windows keeps."""
    shapes = _shapes(text, count)
    _refuse_second_shape(text)
    _words(text, count)
    if text.raw.get("use_sliding_window") is False:
        text.ignore("use_sliding_window", "max_window_layers", *WINDOW)
    return [(shape,) for shape in shapes]


def _sliding_window(text: Config, count: Figure) -> list[Layer]:
    shapes, size = _shapes(text, count), _window(text)
    _refuse_second_shape(text)
    types = _words(text, count)
    if types is not None and set(types) != {SLIDING}:
        text.refuse("layer_types names layers that do not slide; kind=layer_types reads it")
    text.read.add("layer_types")
    for key, value in text.raw.items():
        if value and key not in text.read and _CHOOSES.search(key):
            text.refuse(
                f"{text.name(printable(key))} is {shown(value)}: not every layer slides", HINT
            )
    return [(shape.sliding(size),) for shape in shapes]


def _latent(text: Config, count: Figure) -> list[Layer]:
    text.count("kv_lora_rank")  # before all others: that is what makes it latent attention
    return [(mla(text),)] * count


def _layer_types(text: Config, count: Figure) -> list[Layer]:
    """Full, sliding and chunked layers; the sliding ones with the heads of ``swa_`` keys."""
    types = _words(text, count)
    if types is None:
        text.missing("layer_types")
    text.read.add("layer_types")
    full = _shapes(text, count)
    local = _shapes(text, count, "swa_") if SLIDING in types else full
    if SLIDING in types:
        text.read.update(key for key in text.raw if key.startswith("swa_") and _SHAPES.match(key))
    _refuse_second_shape(text)
    size = _window(text) if SLIDING in types else None
    chunk = text.count("attention_chunk_size", most=MAX_TOKENS) if CHUNKED in types else None
    made: list[Layer] = []
    for kind, shape, narrow in zip(types, full, local, strict=True):
        if kind == SLIDING and size is not None:
            made.append((narrow.sliding(size),))
        elif kind == CHUNKED:
            made.append((replace(shape, kind="chunked_local", span=chunk),))
        else:
            made.append((shape,))
    return made


TEXT_CONFIG = "text_config"
"""Stands for the text part of a wrapper that is not known, by its own model type."""
KINDS: dict[str, Callable[[Config, Figure], list[Layer]]] = {
    "full_attention": _full_attention,
    "sliding_window": _sliding_window,
    "mla": _latent,
    "layer_types": _layer_types,
}
"""What can be assumed, and how it is read."""


def _words(text: Config, count: Figure) -> Sequence[str] | None:
    """``layer_types``, each a kind of attention. Raises RefusedError for another word."""
    given = text.items("layer_types", str, "texts")
    types = text.per_layer("layer_types", given, count)
    text.read.discard("layer_types")
    for word in types or ():
        if word not in _WORDS:
            known = ", ".join(_WORDS)
            text.refuse(f"a layer is of type {shown(word)}; known: {known}")
    if types is not None and set(types) == {FULL}:
        text.read.add("layer_types")
    return types


def _window(text: Config) -> Figure:
    """The window, which no kind takes for full attention where it is not in the file."""
    if text.raw.get("use_sliding_window") is False:
        text.refuse("use_sliding_window is off")
    text.read.add("use_sliding_window")
    size = text.maybe(*WINDOW, most=MAX_TOKENS)
    if size is None:
        text.refuse(f"no key gives the window; looked for {', '.join(WINDOW)}")
    return size


def _shapes(text: Config, count: Figure, prefix: str = "") -> list[Attention]:
    """The heads of each layer; ``prefix`` goes before keys that have it, such as swa_head_dim."""
    if text.raw.get("kv_lora_rank") and text.raw.get("use_mla") is not False:
        text.refuse("kv_lora_rank is set: latent attention, kind=mla")
    heads = _per_layer(text, count, HEADS, prefix)
    if heads is None:
        text.missing(*HEADS)
    kv = _per_layer(text, count, KV, prefix) or _one_each(text, heads)
    width = _per_layer(text, count, WIDTH, prefix)
    if width is None:
        hidden = text.count(*HIDDEN)
        width = [geo.quotient(text, hidden, number) for number in heads]
    values: Sequence[Figure | None] = _per_layer(text, count, VALUES, prefix) or [None] * count
    known: dict[tuple[int | None, ...], Attention] = {}
    return [
        known.setdefault(figures, Attention(heads=h, kv=k, width=w, v_width=v))
        for figures in zip(heads, kv, width, values, strict=True)
        for h, k, w, v in (figures,)
    ]


def _per_layer(
    text: Config, count: Figure, keys: Sequence[str], prefix: str
) -> Sequence[Figure] | None:
    """A figure for each layer: one of all, or a list of one a layer. None where no key is set."""
    spellings = tuple(prefix + key for key in keys)
    own = spellings if prefix and any(map(text.has, spellings)) else tuple(keys)
    key, value = text.value(*own)
    if not key:
        return None
    if not isinstance(value, list):
        return [text.within(key, value, 1, MAX_SIZE)] * count
    numbers = text.per_layer(key, text.numbers(key), count) or ()
    return [text.within(key, number, 1, MAX_SIZE) for number in numbers]


def _one_each(text: Config, heads: Sequence[Figure]) -> Sequence[Figure]:
    """One KV head a head, unless another key seems to say that there are fewer."""
    for key, value in text.raw.items():
        if value and key not in text.read and _KV_LIKE.search(key):
            text.refuse(
                f"{KV[0]} is missing, and {text.name(printable(key))} is {shown(value)}", HINT
            )
    return [Figure(number, f"no {KV[0]}: one for each of {number.origin}") for number in heads]


def _refuse_second_shape(text: Config) -> None:
    """Keys of layers with heads of their own, unless these are the same."""
    for key, value in text.raw.items():
        match = _SHAPES.match(key)
        if match is None or value is None or key in text.read:
            continue
        base = first(text, (f"num_{match[4]}", match[4]))
        if base is None or text.raw[base] != value:
            text.refuse(
                f"{text.name(printable(key))} is {shown(value)}, but {base or match[4]} is "
                f"{shown(text.raw.get(base or ''))}: layers of two shapes",
            )


def _notes(
    top: Config, text: Config, kind: str, model: Model, left: Mapping[str, Any]
) -> Iterator[str]:
    says = "keep what layer_types says" if kind == "layer_types" else f"keeps {kind}"
    who = "the layers" if kind == "layer_types" else "every layer"
    yield f"--assume: {who} of {top.architecture} {says}"
    yield f"--assume took {', '.join(_taken(model))}"[:1_900]
    yield from left_aside(top, text, left)


def left_aside(top: Config, text: Config, left: Mapping[str, Any]) -> Iterator[str]:
    """Keys that can change a cache and that were not used, and sections that were not looked at."""
    if left:
        unused = ", ".join(f"{printable(key)}: {shown(value)}" for key, value in left.items())
        yield f"--assume did not use {unused}"[:1_900]
    others = [key for key in described_sections(top) if not text.prefix.startswith(f"{key}.")]
    if others:
        yield f"--assume did not look at what {', '.join(map(printable, others))} keeps"


def _taken(model: Model) -> Iterator[str]:
    """Each figure with the key that it came from, from the least to the most of its layers."""
    yield f"{len(model.layers):,} layers ({model.layers_key})"
    known: dict[tuple[str, str], list[int]] = {}
    for layer in dict.fromkeys(model.caches()):
        for name, value in (item for cache in layer for item in cache):
            if isinstance(value, Figure):
                known.setdefault((name, value.origin), []).append(int(value))
    for (name, origin), values in known.items():
        least, most = min(values), max(values)
        span = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        yield f"{name} {span} ({origin})"


def ready_kind(top: Config, cache_keys: CacheKeys) -> str | None:
    """The kind that uses every key of the file that can change a cache; None where none does.

    A window alone does not say which layers slide: sliding ones have to be listed. A file without
    KV heads may be an encoder, which keeps nothing; num_layers may count pairs (LongCat-Flash).
    """
    needed = ((LAYERS[0],), (*KV, "kv_lora_rank"))
    if not all(any(first(level, keys) for level in described_levels(top)) for keys in needed):
        return None
    listed = any(level.has("layer_types") for level in described_levels(top))
    for kind in (kind for kind in KINDS if listed or kind != "sliding_window"):
        try:
            if not assumed(top, kind, cache_keys).left:
                return kind
        except RefusedError:
            continue
    return None


def unknown(
    top: Config, error: RefusedError, cache_keys: CacheKeys, ready: str | None = None
) -> RefusedError:
    """The refusal of an architecture that is not known, with what the file says and what to do.

    ``ready`` is a kind that is known to use every key.
    """
    figures = {**found_figures(top), **{top.name(k): v for k, v in cache_keys(top).items()}}
    for level in described_levels(top):
        figures.update({level.name(key): value for key, value in cache_keys(level).items()})
    listed = ", ".join(f"{printable(key)}: {shown(value)}" for key, value in figures.items())
    told = (
        f"; found: {listed}"
        if listed
        else f"; looked for and not found: {', '.join((LAYERS[0], HEADS[0], KV[0], WIDTH[0]))}"
    )
    kind = ready or ready_kind(top, cache_keys)
    if kind is None:
        names = "full_attention, sliding_window, mla, layer_types or text_config"
        way = f"or pass --assume kind={names}: it says which keys it takes and which it leaves"
    else:
        place = shlex.quote(top.path)
        show = f"show {place}" if top.path.endswith(".json") else f"import --from-hub {place}"
        way = (
            "or, if its layers are what their keys say and nothing else: "
            f"kvplan {show} --assume kind={kind}"
        )
    return type(error)(f"{error.message}{told}"[:1_900], f"{HINT}; {way}")
