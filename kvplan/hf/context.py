"""The context that a file declares: its positions, and what the scaling of its rotary keys adds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from kvplan.hf.config import MAX_TOKENS, Config, Figure, shown
from kvplan.hf.families.base import Family

# vLLM 0.33.0 config/model.py, _get_and_verify_max_len: model_max_length goes before all others
# (Command-R), else the smallest counts (Qwen-7B).
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_target_positions",
    "max_decoder_position_embeddings",
    "max_sequence_length",
    "seq_length",
    "max_context_length",
    "n_ctx",
)
_ORIGINAL = "original_max_position_embeddings"
_ROPE_KEYS = ("rope_scaling", "rope_parameters")
"""In the order in which transformers 5.24.0 takes them (convert_rope_params_to_dict)."""

_FACTORS = re.compile(r"(rope|rotary|ntk)_(scaling_)?(scale|factor)")
"""Keys outside a section of rotary keys that have a name for a factor of the context."""

_STRETCHED = ("linear", "dynamic", "ntk")
"""Types whose factor multiplies max_position_embeddings (vLLM 0.33.0 config/model.py:2613)."""

_NOT_STRETCHED = ("default", "llama3", "longrope", "su", "mrope", "proportional", "mllama4")
"""Types of files in which max_position_embeddings is the stretched context already, or which
stretch nothing. DeepSeek's deepseek_llama_scaling is vLLM's name for one of them."""

_LONGROPE = ("su", "longrope")

_SAME_TYPE = {("su", "longrope"), ("mrope", "default")}
"""Old ``type`` and new ``rope_type`` that mean the same (vLLM 0.33.0 patch_legacy_rope_type)."""


@dataclass(frozen=True)
class _Scaling:
    """How rotary positions are scaled, on all layers or on those of one type."""

    section: Config
    kind: str
    factor: Fraction | None
    original: Figure | None

    @property
    def by(self) -> str:
        """The factor, as a provenance names it."""
        return f"{self.section.name('factor')} ({float(self.factor or 1):g})"


def native_context(levels: Sequence[Config], family: Family) -> tuple[Figure | None, list[str]]:
    """The context of the text model in tokens, and what is to be said where it is not certain.

    ``levels`` are its section and the objects around that, the inmost first. The file's own
    declaration counts. YaRN: max_position_embeddings, or the factor times the original length
    where that is more; linear and dynamic: max_position_embeddings times the factor; else
    max_position_embeddings. None where nothing in file or class bounds it.
    """
    longest, positions = _positions(levels)
    stated = longest if longest is not None else positions
    if stated is None or family.context_is_stretched:
        return stated, []
    notes = [*_unread(levels)]
    context = stated
    for scaling in _scalings(levels):
        stretched = _stretched(scaling, positions or stated, notes)
        if stretched is not None and stretched > context:
            context = stretched
    return context, notes


def positions_stated(
    levels: Sequence[Config], family: Family, context: Figure | None
) -> dict[str, Figure]:
    """Lengths that the file states beside its native context, and that engines go by.

    ``max_position_embeddings`` where YaRN stretches it, and the original length that LongRoPE is
    served at where nothing else is asked for (vLLM 0.33.0 config/model.py:2616, 2652).
    """
    longest, positions = _positions(levels)
    stated = longest if longest is not None else positions
    facts: dict[str, Figure] = {}
    if stated is None or context is None or family.context_is_stretched:
        return facts
    kinds = {scaling.kind for scaling in _scalings(levels)}
    if stated != context and any(kind.endswith("yarn") for kind in kinds):
        facts["max_position_embeddings"] = stated
    original = levels[0].maybe(_ORIGINAL, most=MAX_TOKENS) if levels[0].has(_ORIGINAL) else None
    if original is not None and original != context and not kinds.isdisjoint(_LONGROPE):
        facts[_ORIGINAL] = original
    return facts


def _positions(levels: Sequence[Config]) -> tuple[Figure | None, Figure | None]:
    """``model_max_length``, and the fewest positions that a key names, of the first level."""
    for config in levels:
        longest = config.maybe("model_max_length", most=MAX_TOKENS)
        given = [config.maybe(key, most=MAX_TOKENS) for key in _CONTEXT_KEYS if config.has(key)]
        known = [figure for figure in given if figure is not None]
        if longest is not None or known:
            return longest, min(known, default=None)
    return None, levels[0].maybe(*_CONTEXT_KEYS, most=MAX_TOKENS)


def _stretched(scaling: _Scaling, positions: Figure, notes: list[str]) -> Figure | None:
    """What the scaling makes of the positions, or None where it makes nothing of them."""
    kind, factor = scaling.kind, scaling.factor
    if factor is None or factor == 1 or kind in _NOT_STRETCHED or kind.endswith("_llama_scaling"):
        return None
    if kind in _STRETCHED:
        return _times(scaling, factor, positions)
    if not kind.endswith("yarn"):
        notes.append(
            f"{scaling.section.name('rope_type')} {shown(kind)} with factor {float(factor):g} is "
            f"not known: the native context is {positions.origin}, {positions:,}, and may be longer"
        )
        return None
    if scaling.original is not None:
        return _times(scaling, factor, scaling.original)
    stretched = _times(scaling, factor, positions)
    notes.append(
        f"{scaling.section.name(_ORIGINAL)} is missing: {positions.origin} ({positions:,}) is "
        "taken as the length before YaRN, as transformers 5.24.0 does; where it is the length "
        f"after it, the native context is {positions:,} and not {stretched:,}"
    )
    return stretched


def _times(scaling: _Scaling, factor: Fraction, tokens: Figure) -> Figure:
    stretched = int(factor * tokens)
    if stretched > MAX_TOKENS:
        scaling.section.refuse(f"{scaling.by} × {tokens.origin} is more than {MAX_TOKENS:,} tokens")
    return Figure(stretched, f"{scaling.by} × {tokens.origin} ({tokens:,})")


def _scalings(levels: Sequence[Config]) -> Iterator[_Scaling]:
    """The scalings of the level that names any: for all layers, for each type of them, or both."""
    for config in levels:
        for key in _ROPE_KEYS:
            section = config.section(key)
            if section is None or not section.raw:
                continue
            nested = [name for name, value in section.raw.items() if isinstance(value, dict)]
            parts = [part for name in nested if (part := section.section(name))]
            yield from (_scaling(config, part) for part in (*parts, section))
            return


def _unread(levels: Sequence[Config]) -> Iterator[str]:
    """What has to be said of a scaling that does not count, or that stands under another key."""
    scaled = [config for config in levels if any(config.raw.get(key) for key in _ROPE_KEYS)]
    for config in levels:
        for key, value in config.raw.items():
            around = config in scaled[1:] and key in _ROPE_KEYS and "factor" in (value or {})
            if around and all(scaled[0].raw.get(name) != value for name in _ROPE_KEYS):
                inner = next(name for name in _ROPE_KEYS if scaled[0].raw.get(name))
                yield f"{config.name(key)} is not counted: {scaled[0].name(inner)} goes before it"
            if _FACTORS.fullmatch(key) and type(value) in (int, float) and value > 1:
                yield (
                    f"{config.name(key)} is {shown(value)}, and nothing here reads it: the native "
                    "context may be longer"
                )


def _scaling(config: Config, section: Config) -> _Scaling:
    kind, old = section.word("rope_type"), section.word("type")
    if kind and old and kind != old and (old, kind) not in _SAME_TYPE:
        section.refuse(f"{section.name('type')} is {old}, but {kind.origin} is {kind}")
    inner = section.maybe(_ORIGINAL, most=MAX_TOKENS)
    outer = config.maybe(_ORIGINAL, most=MAX_TOKENS) if config.has(_ORIGINAL) else None
    if inner is not None and outer is not None and inner != outer:
        section.refuse(f"{inner.origin} is {inner:,}, but {outer.origin} is {outer:,}")
    original = inner if inner is not None else outer
    return _Scaling(section, str(kind or old or "none").lower(), _factor(section), original)


def _factor(section: Config) -> Fraction | None:
    _, value = section.value("factor")
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_TOKENS:
        section.refuse(f"{section.name('factor')} has to be a possible factor, not {shown(value)}")
    return Fraction(str(value))
