"""From a config.json to a ModelSpec: its layers in groups, its weights, the model's own facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kvplan.errors import RefusedError
from kvplan.groups import Group
from kvplan.hf.architecture import (
    Architecture,
    UnknownArchitectureError,
    architecture,
    architecture_name,
    cache_keys,
    named_class,
    refuse_unread,
    refuse_unread_text,
    wrapped,
)
from kvplan.hf.assumed import TEXT_CONFIG, assumable, assumed, left_aside, unknown
from kvplan.hf.blocks.base import Model, kept
from kvplan.hf.checkpoint import Checkpoint
from kvplan.hf.class_names import task_notes
from kvplan.hf.config import MAX_SIZE, MAX_TOKENS, Config, UncountedError, Word, shown
from kvplan.hf.context import native_context, positions_stated
from kvplan.hf.families.base import Family
from kvplan.hf.file_levels import levels_to
from kvplan.hf.grouping import Provenance, bare, grouped, origins
from kvplan.hf.header_weights import checkpoint_weights
from kvplan.hf.kv_cache_scheme import kv_cache_scheme
from kvplan.hf.sections import caches_beside, refuse_unread_sections
from kvplan.hf.weight_facts import weight_facts
from kvplan.hf.weights import weights
from kvplan.kinds import kind_class
from kvplan.spec import ClassDefault, ModelSpec

DTYPES = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp16": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "fp32": "fp32",
}
_DTYPE_KEYS = ("dtype", "torch_dtype", "params_dtype")
_TOKEN_FIGURES = {"sliding_window", "attention_chunk_size", "encoder_tokens"}


def model_spec(
    raw: dict[str, Any],
    path: str,
    name: str,
    quantization: dict[str, Any] | None,
    assume: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[ModelSpec, Provenance]:
    """The spec that this config.json means. Raises RefusedError.

    ``quantization`` is hf_quant_config.json beside it; weights are those of ``checkpoint`` where
    there is one.
    """
    top = Config(raw, path, architecture_name(raw))
    reading = _read(top, assume if assume is None else assumable(assume))
    top, found, model = reading.top, reading.found, reading.model
    text = found.text
    beside = None
    if quantization is not None:
        beside = Config(quantization, path, top.architecture, "hf_quant_config.json: ")
    stored, dtype, unnamed = _dtype(top, text)
    counted, open_bytes = weight_facts(weights(top, found, model, stored, beside))
    places = [top] if text is top else [top, text]
    if checkpoint is not None:
        layers = len(model.layers)
        counted, open_bytes = checkpoint_weights(checkpoint, places, layers, counted, open_bytes)
    levels = levels_to(top, text)[::-1]
    context, stretched = native_context(levels, found.family)
    said = (*task_notes(top.architecture, found.task, text), *model.assumptions, *stretched)
    facts: dict[str, Any] = {
        "native_context_tokens": context,
        **positions_stated(levels, found.family, context),
        "dtype": dtype,
        **_kv_cache(top, places, beside, model),
        "vocab_size": _size(lambda: text.size(_vocabulary_key(text))),
        "hidden_size": _size(model.hidden),
        "assumptions": (*reading.notes, *said, *caches_beside(top, text), *unnamed, *open_bytes),
        "class_defaults": _class_defaults(top),
    }
    return _spec(top, name, facts, model, counted, checkpoint.origin if checkpoint else None)


def _size(read: Callable[[], int]) -> int | None:
    """A size that no cache needs: None where neither the file nor its class has it."""
    try:
        return read()
    except UncountedError:
        return None


def _vocabulary_key(text: Config) -> str:
    """ChatGLM and Inkling name rows that are padded already."""
    return next(filter(text.has, ("padded_vocab_size", "vocab_size")), "vocab_size")


def _class_defaults(top: Config) -> tuple[ClassDefault, ...]:
    """What the file left to its class, of all that has been read until now."""
    return tuple(
        ClassDefault(key=key, value=tuple(value) if isinstance(value, list) else value, source=by)
        for key, (value, by) in top.taken.items()
    )


@dataclass(frozen=True)
class _Reading:
    """One way to read a file: its levels, what its layers keep, and what has to be said of it."""

    top: Config
    found: Architecture
    model: Model
    notes: tuple[str, ...] = ()


def _read(top: Config, assume: str | None) -> _Reading:
    """The file by its own family, or by ``assume`` where that is given.

    What is assumed goes before what is known, and says so; where the two are the same, or the
    assumption cannot be, the family's own reading stands.
    """
    if assume is None:
        try:
            return _own(top)
        except UnknownArchitectureError as error:
            raise unknown(top, error, cache_keys, _ready(top)) from None
    try:
        own = _own(replace(top, read=set(), taken={}))
    except RefusedError:
        return _Reading(top, *_assumed(top, assume))
    try:
        reading = _Reading(top, *_assumed(top, assume))
    except RefusedError:
        return own
    if reading.model.caches() == own.model.caches():
        return own
    said = f"{top.architecture} is known: without --assume its layers are read as they are"
    return replace(reading, notes=(*reading.notes, said))


def _own(top: Config) -> _Reading:
    found = architecture(top)
    model = found.family.read(found.text)
    refuse_unread(top, found, model)
    refuse_unread_sections(top, found.text)
    return _Reading(top, found, model)


def _assumed(top: Config, assume: str) -> tuple[Architecture, Model, tuple[str, ...]]:
    """What ``assume`` puts in the place of an unknown architecture, and what has to be said."""
    if assume != TEXT_CONFIG:
        made = assumed(top, assume, cache_keys)
        return Architecture(Family(read=lambda _: made.model), made.text), made.model, made.notes
    found = wrapped(top)
    if found is None:
        top.refuse("no section, or more than one, has a model_type that is known")
    model = found.family.read(found.text)
    refuse_unread_text(found.text, model)
    name = found.text.prefix.rstrip(".")
    said = f"--assume: {top.architecture} keeps what its {name} says, and nothing else"
    return found, model, (said, *left_aside(top, found.text, cache_keys(top)))


def _ready(top: Config) -> str | None:
    """``text_config`` where the text part is read as it is and no other key speaks of a cache."""
    try:
        notes = _assumed(top, TEXT_CONFIG)[2]
    except RefusedError:
        return None
    return None if any("did not use" in note for note in notes) else TEXT_CONFIG


def _kv_cache_dtype(levels: list[Config], beside: Config | None, model: Model) -> str | None:
    scheme = kv_cache_scheme(levels, beside)
    own = model.kv_cache_dtype
    if own is None:
        return scheme
    if scheme is not None and not scheme.startswith("fp8"):
        levels[0].refuse(f"{scheme.origin} asks for {scheme}, this family is kept as {own}")
    return Word(own, scheme.origin if scheme else "this family's own layout in vLLM 0.33.0")


def _kv_cache(
    top: Config, levels: list[Config], beside: Config | None, model: Model
) -> dict[str, Any]:
    """The KV dtype, and whether only hf_quant_config.json names it where config.json could."""
    dtype = _kv_cache_dtype(levels, beside, model)
    could = beside is not None and bool(top.raw.get("quantization_config"))
    named = could and kv_cache_scheme(levels, beside) is not None
    return {
        "kv_cache_dtype": dtype,
        "kv_cache_dtype_beside": named and kv_cache_scheme(levels, None) is None,
    }


def _spec(
    top: Config,
    name: str,
    facts: dict[str, Any],
    model: Model,
    counted: dict[str, Any],
    weights_origin: str | None,
) -> tuple[ModelSpec, Provenance]:
    source = f"{top.architecture} in {top.path}"[:1_900]
    source += f"; weights from {weights_origin}" if weights_origin else ""
    named = {"name": name, "source": source, "architecture": named_class(top)}
    data = {**named, **facts, **grouped(model)}
    _refuse_absurd(top, model)
    plain, provenance = bare(data), origins(data)
    if weights_origin:
        provenance["weights",] = weights_origin
    for key in ("groups", "draft"):
        plain[key] = tuple(_group(top, group) for group in plain.get(key, ()))
    try:
        pattern = tuple(plain.get("pattern", ()))
        return ModelSpec(**{**plain, **counted, "pattern": pattern}), provenance
    except ValueError as error:
        top.refuse(str(error))


def _group(top: Config, group: dict[str, Any]) -> Group:
    """A group of the spec; figures that contradict one another are refused."""
    try:
        caches = tuple(kind_class(cache["kind"])(**cache) for cache in group["caches"])
    except ValueError as error:
        top.refuse(str(error))
    return Group(name=group.get("name"), layers=group.get("layers"), caches=caches)


def _refuse_absurd(top: Config, model: Model) -> None:
    """Products of two figures are checked here; what the file itself gives is checked as read."""
    for layer in {*model.caches(), *map(kept, model.draft)}:
        for key, value in (item for cache in layer for item in cache):
            most = MAX_TOKENS if key in _TOKEN_FIGURES else MAX_SIZE
            if isinstance(value, int) and not isinstance(value, bool) and value > most:
                top.refuse(f"{key} would be {value:,}, more than {most:,}")


def _dtype(top: Config, text: Config) -> tuple[str, Word, tuple[str, ...]]:
    """The dtype stored, the one served, and what is to be said where it is not the file's word.

    vLLM 0.33.0 (config/model.py:2440) serves files that say float32, or nothing, in bf16.
    """
    word = top.word(*_DTYPE_KEYS) or text.word(*_DTYPE_KEYS)
    if word is None or word == "auto":
        said = (
            "the config names no dtype: bf16 is taken, which is how vLLM 0.33.0 serves such files"
        )
        return "bf16", Word("bf16", "none; bf16 as vLLM 0.33.0 serves it"), (said,)
    dtype = DTYPES.get(word.removeprefix("torch."))
    if dtype is None:
        top.refuse(f"{word.origin} is {shown(str(word))}, a dtype that is not known here")
    if dtype == "fp32":
        said = "the config says float32: the cache is taken in bf16, as vLLM 0.33.0 serves it"
        return dtype, Word("bf16", f"{word.origin}; float32 is served in bf16"), (said,)
    return dtype, Word(dtype, word.origin), ()
