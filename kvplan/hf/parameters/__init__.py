"""Parameters and stored bytes of a checkpoint, counted from its config.json part by part.

Nothing is estimated: what the file does not tell is named in ``Weights.not_counted``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvplan.errors import RefusedError
from kvplan.hf import schemes, stored
from kvplan.hf.config import Config, printable, shown
from kvplan.hf.parameters import (
    gemma,
    latent,
    mamba,
    mixture,
    older,
    ordinary,
    peculiar,
    peculiar_experts,
    recurrent,
    towers,
)
from kvplan.hf.parameters.blocks import TOWERS, Tensor, Tensors, UncountedError
from kvplan.spec import StoredWeights

COUNTERS: dict[str, ordinary.Counter] = {
    **ordinary.COUNTERS,
    **older.COUNTERS,
    **gemma.COUNTERS,
    **mixture.COUNTERS,
    **latent.COUNTERS,
    **mamba.COUNTERS,
    **recurrent.COUNTERS,
    **peculiar.COUNTERS,
    **peculiar_experts.COUNTERS,
}
"""How each family is counted, by the model type of its text part: a new model goes there."""

ORDER = (
    "embedding",
    "attention",
    "attention_down",
    "indexer",
    "recurrent",
    "dense_mlp",
    "router",
    "routed_experts",
    "shared_experts",
    "norm",
    "other",
    "lm_head",
    "vision",
    "audio",
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the model. ``in_total`` is off for a tower that the model's size leaves out.

    ``stored`` is None where the file does not determine the bytes; ``unknown`` then says why, and
    ``least_bytes`` and ``most_bytes`` are the bounds where there are any.
    """

    name: str
    parameters: int
    active: int
    in_total: bool
    stored: tuple[StoredWeights, ...] | None
    unknown: str | None
    least_bytes: int | None
    most_bytes: int | None
    at_most: tuple[StoredWeights, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The parts of a checkpoint without draft (MTP) layers, and what could not be counted."""

    parts: tuple[Part, ...]
    not_counted: tuple[str, ...] = ()
    """Parts that exist and are not in ``parts``: "vision tower: vision_config is not there"."""
    missing_in_total: bool = False
    active_varies: bool = False

    @property
    def total(self) -> int | None:
        """Parameters, a tied head once; None where a part of them could not be counted."""
        if not self.parts or self.missing_in_total:
            return None
        return sum(part.parameters for part in self.parts if part.in_total)

    @property
    def active(self) -> int | None:
        """Parameters that one token of text uses, embeddings among them; None where it varies.

        Equal to the total without experts; with experts a vision tower is not among them.
        """
        if self.total is None or self.active_varies:
            return None
        if not any(part.name == "routed_experts" for part in self.parts):
            return self.total
        return sum(part.active for part in self.parts if part.name not in TOWERS)

    @property
    def stored(self) -> tuple[StoredWeights, ...] | None:
        """Rows of the whole checkpoint; None where any part's bytes are not known."""
        if not self.parts or self.not_counted or any(p.stored is None for p in self.parts):
            return None
        return tuple(row for part in self.parts for row in part.stored or ())

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of the checkpoint's tensors; None where any part's are not known."""
        rows = self.stored
        return None if rows is None else sum(row.size_bytes for row in rows)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Why the bytes are not known, part by part."""
        reasons = [f"{part.name}: {part.unknown}" for part in self.parts if part.unknown]
        return (*self.not_counted, *reasons)


def counted(top: Config, text: Config, model_type: str, beside: Config | None = None) -> Weights:
    """The weights that this file means; ``beside`` is hf_quant_config.json.

    ``text`` is the level of the text model, ``model_type`` its family. Raises RefusedError for
    figures that contradict one another or are none.
    """
    reader = COUNTERS.get(model_type)
    if reader is None:
        return Weights(parts=(), not_counted=(f"everything: no count of {shown(model_type)} yet",))
    try:
        tensors = reader(text)
        _doubt_unread(text)
    except UncountedError as error:
        return Weights(parts=(), not_counted=(f"everything: {error.reason}",))
    wrapper = str(top.raw.get("model_type"))
    more, missing = _towers(top, text, wrapper)
    tensors += more
    _refuse_absurd(top, tensors)
    return Weights(
        parts=_parts(tensors, schemes.scheme(top, text, model_type, beside, tensors)),
        not_counted=missing,
        missing_in_total=bool(missing) and wrapper not in towers.OUTSIDE,
        active_varies=model_type == "longcat_flash",
    )


_WEIGHT_KEYS = re.compile(
    r"(^|_)bias$|qk_(layer)?norm$|experts$|lora_rank$|expert.*(size|dim)$|output_gate|_gate$|"
    r"tie_|latent|affine|engram|ngram|hc_mult|low_rank|_per_layer_input$|ffn_dim$|"
    r"^use_moe|n_inner",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"(mtp|nextn|jitter|loss|vision|audio|mm_|vit_|draft|router_bias_update|decay).*|"
    r"mamba_norm_before_gate|tie_encoder_decoder|intermediate_size_mlp|moe_layer_freq|num_experts_per_tok",
    re.IGNORECASE,
)


def _doubt_unread(text: Config) -> None:
    """A key that can change the weights, and that this family is not known to have."""
    for key, value in text.raw.items():
        if key in text.read or not _WEIGHT_KEYS.search(key) or _HARMLESS.match(key):
            continue
        if value in (None, False, 0, "", [], {}):
            continue
        raise UncountedError(
            f"{text.name(printable(key))} is {shown(value)}, and what that does to the weights of "
            "this family is not known"
        )


def _towers(top: Config, text: Config, wrapper: str) -> tuple[Tensors, tuple[str, ...]]:
    """Tensors of the towers around the text model, and the towers that cannot be counted."""
    made: Tensors = ()
    missing: list[str] = []
    if text is not top:
        made, missing = _vision(top, text, wrapper)
    elif _has_vision(top):
        missing.append("vision tower: no count of it for this family")
    for section, name in towers.BESIDE.get(wrapper, ()):
        if wrapper != "gemma4" or top.raw.get(section) is not None:
            reason = "no count of it yet" if top.has(section) else f"{section} is not in the file"
            missing.append(f"{name}: {reason}")
    return made, tuple(missing)


def _has_vision(top: Config) -> bool:
    keys = ("vision_config", "audio_config", "visual", "vision_encoder", "mm_vision_tower")
    return top.raw.get("model_type") in _SEEING or any(top.has(key) for key in keys)


_SEEING = ("step3p7", "qwen2_vl", "qwen2_5_vl", "phi3_v", "phi4mm", "phi4_multimodal")
"""Wrappers whose text figures stand at the top of the file."""


def _vision(top: Config, text: Config, wrapper: str) -> tuple[Tensors, list[str]]:
    tower = towers.TOWERS.get(wrapper)
    if tower is None:
        if wrapper in towers.BESIDE:
            return (), []
        return (), [f"all around the text model: no count of that of {shown(wrapper)} yet"]
    vision = top.section("vision_config")
    if vision is None:
        return (), ["vision tower: vision_config is not in the file"]
    try:
        return towers.marked(tower.count(vision, text), outside=tower.outside), []
    except UncountedError as error:
        return (), [f"vision tower: {error.reason}"]


def _refuse_absurd(top: Config, tensors: Tensors) -> None:
    """Products of figures that are each possible can still be no model."""
    most = 1 << 53
    for tensor in tensors:
        if tensor.elements > most:
            top.refuse(f"{tensor.name} would have {tensor.elements:,} parameters")


def _parts(tensors: Tensors, scheme: stored.Scheme) -> tuple[Part, ...]:
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((_part_name(tensor), tensor.outside), []).append(tensor)
    return tuple(
        _part(name, found, scheme, in_total=not outside)
        for (name, outside), found in sorted(groups.items(), key=lambda item: _rank(item[0][0]))
    )


def _part_name(tensor: Tensor) -> str:
    # MLA's projections into the latents are copied to every rank, the rest of attention is split.
    down = tensor.part == "attention" and re.search(r"\.(q_a|kv_a)_proj(_with_mqa)?$", tensor.name)
    return "attention_down" if down else tensor.part


def _rank(name: str) -> int:
    return ORDER.index(name)


def _part(name: str, tensors: list[Tensor], scheme: stored.Scheme, *, in_total: bool) -> Part:
    parameters = [tensor for tensor in tensors if tensor.kind != "buffer"]
    found = stored.rows(tensors, scheme)
    return Part(
        name=name,
        parameters=sum(tensor.elements for tensor in parameters),
        active=sum(tensor.active for tensor in parameters),
        in_total=in_total,
        stored=found.sure,
        unknown=found.unknown,
        least_bytes=found.least_bytes,
        most_bytes=found.most_bytes,
        at_most=found.at_most,
    )


__all__ = ["COUNTERS", "Part", "RefusedError", "Weights", "counted"]
