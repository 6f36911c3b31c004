"""Parameters and stored bytes of a checkpoint, counted from its config.json part by part.

Nothing is estimated: what the file does not tell is named in ``Weights.not_counted``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf import quantized_rows
from kvplan.hf.architecture import Architecture
from kvplan.hf.blocks.base import TOWERS, Model, Tensor
from kvplan.hf.blocks.ends import tied
from kvplan.hf.class_names import task_tensors
from kvplan.hf.config import Config, ContradictionError, UncountedError, printable, shown
from kvplan.hf.families.base import Wrapper
from kvplan.hf.lora import lora_widths
from kvplan.hf.quantization import scheme
from kvplan.hf.quantized_rows import Scheme
from kvplan.stored import LoraWidths, StoredWeights

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
    """One part of the model.

    ``stored`` is None where the file does not determine the bytes; ``unknown`` then says why, and
    ``least_bytes`` and ``most_bytes`` are the bounds where there are any.
    """

    name: str
    parameters: int
    active: int
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
    active_varies: bool = False
    routed_experts: int | None = None
    """Routed experts of a layer."""
    expert_intermediate_size: int | None = None
    """Width of one routed expert; None where they differ."""
    assumes: str | None = None
    """What the stored bytes rest on that is not the file's own word."""
    lora: tuple[LoraWidths, ...] = ()
    """What an adapter adds to each part; empty where that is not known."""

    @property
    def total(self) -> int | None:
        """Parameters, a tied head once; None where a part of them could not be counted."""
        if not self.parts or self.not_counted:
            return None
        return sum(part.parameters for part in self.parts)

    @property
    def language(self) -> int:
        """The same of the language model, without towers."""
        return sum(part.parameters for part in self.parts if part.name not in TOWERS)

    @property
    def active(self) -> int | None:
        """Parameters that one token of text uses, embeddings among them; None where it varies."""
        if self.active_varies:
            return None
        return sum(part.active for part in self.parts if part.name not in TOWERS)


def weights(
    top: Config, found: Architecture, model: Model, dtype: str, beside: Config | None = None
) -> Weights:
    """The weights that this file means; ``beside`` is hf_quant_config.json.

    ``dtype`` is that of tensors which are not quantised. Raises RefusedError for figures that
    contradict one another.
    """
    try:
        whole = model.weights()
        tensors = task_tensors(found.task, whole, found.text, model.hidden())
        _doubt_unread(found.text)
        _doubt_tie(found)
    except UncountedError as error:
        return Weights(parts=(), not_counted=(f"everything: {error.reason}",))
    except ContradictionError as error:
        top.refuse(error.reason)
    more, missing = _towers(top, found)
    tensors += more
    _refuse_absurd(top, tensors)
    routed = [tensor.copies for tensor in tensors if tensor.part == "routed_experts"]
    stored = scheme(top, found.text, dtype, beside, found.family.published, tensors)
    return Weights(
        parts=_parts([*tensors, *stored.adds], stored),
        not_counted=missing,
        active_varies=model.active_varies,
        routed_experts=max(routed, default=None),
        expert_intermediate_size=_expert_width(tensors),
        assumes=stored.assumes,
        lora=lora_widths(tensors, model.hidden(), top.architecture),
    )


def _expert_width(tensors: Sequence[Tensor]) -> int | None:
    """Columns of a routed expert's last matrix; those of the ones before it are what it sees."""
    matrices = [t for t in tensors if t.part == "routed_experts" and t.kind == "linear"]
    columns = list(dict.fromkeys(tensor.shape[-1] for tensor in matrices))
    return columns[-1] if len(columns) in (1, 2) else None


_WEIGHT_KEYS = re.compile(
    r"(^|_)bias$|qk_(layer)?norm$|experts$|lora_rank$|expert.*(size|dim)$|output_gate|_gate$|"
    r"tie_|latent|affine|engram|ngram|hc_mult|low_rank|_per_layer_input$|ffn_dim$|"
    r"^use_moe|n_inner|^draft_vocab_size|^(eagle|dflash)_config",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"(mtp|nextn|jitter|loss|vision|audio|mm_|vit_|draft(?!_vocab)|router_bias_update|decay).*|"
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


def _doubt_tie(found: Architecture) -> None:
    """Flags that ask for a tied head where the class around the text model ties none."""
    if found.wrapper is not None and not found.wrapper.can_tie and tied(found.text, default=False):
        raise UncountedError(
            "tie_word_embeddings is on, which transformers 5.24.0 does not do here"
        )


def _towers(top: Config, found: Architecture) -> tuple[list[Tensor], tuple[str, ...]]:
    """Tensors of the towers around the text model, and the towers that cannot be counted."""
    if set(TOWERS) <= set(found.task.left_out):
        return [], ()
    if found.wrapper is None or (found.text is top and found.wrapper.tower is None):
        seen = found.family.sees or any(top.has(key) for key in _TOWER_KEYS)
        return [], ("vision tower: no count of it for this family",) if seen else ()
    tensors: list[Tensor] = []
    missing: list[str] = []
    try:
        tensors = _vision(top, found.text, found.wrapper)
    except UncountedError as error:
        missing.append(error.reason)
    for beside in found.wrapper.beside:
        if top.has(beside.section):
            missing.append(f"{beside.what}: no count of it yet")
        elif not beside.optional:
            missing.append(f"{beside.what}: {beside.section} is not in the file")
    return tensors, tuple(missing)


_TOWER_KEYS = ("vision_config", "audio_config", "visual", "vision_encoder", "mm_vision_tower")


def _vision(top: Config, text: Config, wrapper: Wrapper) -> list[Tensor]:
    """Tensors of the vision tower. Raises UncountedError with what is left out."""
    if wrapper.tower is None:
        if wrapper.beside:
            return []
        name = shown(str(top.raw.get("model_type")))
        raise UncountedError(f"all around the text model: no count of that of {name} yet")
    vision = top.section("vision_config")
    if vision is None:
        raise UncountedError("vision tower: vision_config is not in the file")
    try:
        tensors = wrapper.tower(vision, text).weights()
    except UncountedError as error:
        raise UncountedError(f"vision tower: {error.reason}") from None
    return [replace(t, part="vision") for t in tensors]


def _refuse_absurd(top: Config, tensors: Sequence[Tensor]) -> None:
    """Products of figures that are each possible can still be no model."""
    most = 1 << 53
    for tensor in tensors:
        if tensor.elements > most:
            top.refuse(f"{tensor.name} would have {tensor.elements:,} parameters")


def _parts(tensors: Sequence[Tensor], scheme: Scheme) -> tuple[Part, ...]:
    groups: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.part, []).append(tensor)
    return tuple(_part(name, groups[name], scheme) for name in sorted(groups, key=ORDER.index))


def _part(name: str, tensors: list[Tensor], scheme: Scheme) -> Part:
    parameters = [tensor for tensor in tensors if tensor.kind != "buffer"]
    found = quantized_rows.rows(tensors, scheme)
    return Part(
        name=name,
        parameters=sum(tensor.elements for tensor in parameters),
        active=sum(tensor.active for tensor in parameters),
        stored=found.sure,
        unknown=found.unknown,
        least_bytes=found.least_bytes,
        most_bytes=found.most_bytes,
        at_most=found.at_most,
    )
