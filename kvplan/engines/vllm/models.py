"""The caches that vLLM's own model classes register, where these are not what the model needs.

Files are those of vLLM 0.33.0, below model_executor/models where no other folder is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvplan.dtypes import AS_ENGINES_DO, AUTO, BesideDtypes
from kvplan.engines.vllm.architectures import RELEASE, model_class
from kvplan.errors import RefusedError
from kvplan.groups import Group
from kvplan.kinds import CacheKind
from kvplan.kinds.full_attention import AttentionHeads, FullAttention, full_attention
from kvplan.kinds.mla import MLA
from kvplan.kinds.recurrent import (
    GatedDeltaNet,
    KimiDeltaAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
)
from kvplan.kinds.sliding_window import SlidingWindow
from kvplan.spec import ModelSpec

_States = Mamba1 | Mamba2 | GatedDeltaNet | KimiDeltaAttention | LightningAttention

_CONFIG_STATES = ("NemotronH", "Qwen3_5", "Qwen4Exp", "ColQwen3_5")
"""Classes that take the state's dtype from the config: config.py, NemotronHForCausalLMConfig and
Qwen3_5ForConditionalGenerationConfig. All others keep it in the model's dtype, whatever it says."""

_FP32_STATES = ("NemotronH",)
"""Those of them whose state is fp32 where the config names no dtype (config.py:815)."""

_ONE_MORE = frozenset(
    {"Cohere2ForCausalLM", "Cohere2MoeForCausalLM", "Cohere2VisionForConditionalGeneration"}
)
"""Their windows hold the token itself and sliding_window more (commandr.py:244)."""

_NO_MIXED_WINDOWS = frozenset({"Qwen2ForCausalLM"})
"""qwen2.py:351 asserts that the layers are all of one kind."""

_WINDOWS_OF_ALL = frozenset(
    {
        *("Qwen2MoeForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
        *("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
    }
)
"""Classes that name no window of a layer: windows of some layers only are not applied, for
cache_config.sliding_window is that of models whose layers all slide (engine/arg_utils.py:2290)."""


def as_vllm_keeps(spec: ModelSpec, beside: BesideDtypes = AS_ENGINES_DO) -> ModelSpec:
    """The model with the caches that vLLM registers for it.

    ``beside`` are the dtypes asked for beside keys and values. Raises RefusedError for an
    architecture that vLLM does not have, or whose caches there are not known.
    """
    served = model_class(spec)
    changes = [_state_change(spec, beside)]
    if served is not None and served.of_transformers:
        changes.append(lambda kind: _as_transformers(spec, kind))
    elif spec.architecture in _CHANGES:
        changes.append(_CHANGES[spec.architecture])
    if spec.architecture in _ONE_MORE:
        changes.append(_with_one_more)
    if _mixes_windows(spec):
        if spec.architecture in _NO_MIXED_WINDOWS:
            raise RefusedError(
                f"{spec.name}: {RELEASE} refuses it: Sliding window for some but all layers is "
                "not supported."
            )
        if spec.architecture in _WINDOWS_OF_ALL:
            changes.append(_without_window)
    return _changed(spec, changes)


def _changed(spec: ModelSpec, changes: list[Callable[[CacheKind], CacheKind]]) -> ModelSpec:
    known: dict[CacheKind, CacheKind] = {}

    def changed(kind: CacheKind) -> CacheKind:
        if kind not in known:
            known[kind] = kind
            for change in changes:
                known[kind] = change(known[kind])
        return known[kind]

    def group(old: Group) -> Group:
        return replace(old, caches=tuple(changed(kind) for kind in old.caches))

    groups, draft = tuple(map(group, spec.groups)), tuple(map(group, spec.draft))
    # hf_quant_config.json is opened only where config.json has no quantization_config
    # (transformers_utils/config.py:956).
    named = None if spec.kv_cache_dtype_beside else spec.kv_cache_dtype
    if (groups, draft, named) == (spec.groups, spec.draft, spec.kv_cache_dtype):
        return spec
    return replace(spec, groups=groups, draft=draft, kv_cache_dtype=named)


def _state_change(spec: ModelSpec, beside: BesideDtypes) -> Callable[[CacheKind], CacheKind]:
    """The dtype of recurrent states (layers/mamba/mamba_utils.py, _mamba_state_dtype).

    Where an option names the convolution's, the state has the same: both are left to the option.
    """
    name = spec.architecture

    def change(kind: CacheKind) -> CacheKind:
        if not isinstance(kind, _States):
            return kind
        stored = kind.state_dtype if name is None or name.startswith(_CONFIG_STATES) else None
        if stored is None and name is not None and name.startswith(_FP32_STATES):
            stored = "fp32"
        if stored is None and isinstance(kind, KimiDeltaAttention):
            stored = "fp32"
        if stored is None and beside.mamba_cache_dtype == AUTO:
            stored = spec.dtype
        return replace(kind, state_dtype=stored)

    return change


def _mixes_windows(spec: ModelSpec) -> bool:
    """Whether some of the model's layers slide and others do not."""
    kinds = [kind for group in spec.groups for kind in group.caches]
    slides = {isinstance(kind, SlidingWindow) for kind in kinds if kind.is_attention}
    return len(slides) > 1


def _without_window(kind: CacheKind) -> CacheKind:
    return _as_full(kind) if isinstance(kind, SlidingWindow) else kind


def _with_one_more(kind: CacheKind) -> CacheKind:
    if isinstance(kind, SlidingWindow):
        return replace(kind, sliding_window=kind.sliding_window + 1)
    return kind


def _as_full(kind: AttentionHeads) -> FullAttention:
    return full_attention(
        kind.num_attention_heads, kind.num_key_value_heads, kind.head_dim, kind.value_dim
    )


def _uncompressed(kind: CacheKind) -> CacheKind:
    """Keys and values of all heads, values padded to the keys' width (minicpm3.py:126, 174)."""
    if not isinstance(kind, MLA):
        return kind
    width = kind.qk_nope_head_dim + kind.qk_rope_head_dim
    return full_attention(kind.num_attention_heads, None, width, width)


def _as_transformers(spec: ModelSpec, kind: CacheKind) -> CacheKind:
    """transformers/base.py, _create_attention_instances: every layer attends, or slides.

    Layers that share keys and values are given caches of their own, chunks are full attention.
    """
    if kind.kind in ("kv_shared", "chunked_local") and isinstance(kind, AttentionHeads):
        kind = _as_full(kind)
    if kind.kind not in ("full_attention", "sliding_window") or _has_two_widths(kind):
        raise RefusedError(
            f"{spec.name}: {RELEASE} serves {spec.architecture} by its Transformers backend, and "
            f"what that keeps for {kind.tag()} layers is not known",
            "leave engine out: plain arithmetic knows its bytes",
        )
    return kind


def _has_two_widths(kind: CacheKind) -> bool:
    return isinstance(kind, AttentionHeads) and kind.value_dim != kind.head_dim


_CHANGES: dict[str | None, Callable[[CacheKind], CacheKind]] = {
    "MiniCPM3ForCausalLM": _uncompressed,
}
