"""Models beside one another: what each keeps, and on how many GPUs it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from kvplan.calc import (
    Footprint,
    as_full_attention,
    footprint,
    multi_head_footprint,
    resolved_format,
)
from kvplan.errors import UsageError
from kvplan.fit import (
    Workload,
    fits,
    layout,
    max_context_tokens,
    on_one_gpu,
    room_for_cache_bytes,
    smallest_layout,
    tensor_parallel_sizes,
)
from kvplan.parallel import Layout
from kvplan.registry import load, load_gpu
from kvplan.spec import Gpu, ModelSpec
from kvplan.units import gib

DEFAULT_GPU = "h100-sxm-80gb"


@dataclass(frozen=True)
class Row:
    """One model of a comparison; sizes in bytes, of one copy of the whole model.

    ``gpu_count`` is None where nothing fits or the weights are not known;
    ``max_context_tokens`` is None where memory does not bound it or the weights are not known,
    and 0 where no context fits. Ratios are None where they would be to nothing.
    """

    spec: ModelSpec
    footprint: Footprint
    multi_head: Footprint | None
    ratio_to_first: float | None
    layout: Layout | None
    gpu_count: int | None
    max_context_tokens: int | None
    context_unbounded: bool
    indivisible: bool
    warnings: tuple[str, ...]

    @property
    def mha_ratio(self) -> float | None:
        """Cache over that of full multi-head attention; None without attention."""
        if self.multi_head is None or not self.multi_head.total_bytes:
            return None
        return float(Fraction(self.footprint.total_bytes, self.multi_head.total_bytes))

    @property
    def attention(self) -> tuple[str, ...]:
        """Labels of the kinds of cache, each once, in the order of the layers."""
        return attention_labels(self.spec)

    @property
    def does_not_fit(self) -> bool:
        """Whether the weights are known and no layout asked for holds them and the cache."""
        return self.gpu_count is None and self.spec.weights_bytes is not None


@dataclass(frozen=True)
class Comparison:
    """Rows in the order asked for, and the GPU that they were laid out on."""

    rows: tuple[Row, ...]
    work: Workload
    gpu: Gpu
    asked: Layout | None
    warnings: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every model with known weights fits."""
        return not any(row.does_not_fit for row in self.rows)


def attention_labels(spec: ModelSpec) -> tuple[str, ...]:
    """Short names of what a model's layers keep: ``("GQA", "SWA")``."""
    return tuple(
        dict.fromkeys(
            kind.tag() for kind, _, _ in spec.caches() if kind.slots() and kind.is_attention
        )
    )


def compare(
    models: Sequence[str | Path | ModelSpec],
    context_tokens: int,
    sequences: int = 1,
    kv_cache_dtype: str = "auto",
    gpu: str | Gpu = DEFAULT_GPU,
    gpus: int | None = None,
    tensor_parallel: int | None = None,
    *,
    draft: bool = False,
) -> Comparison:
    """Models side by side at ``context_tokens`` tokens for each of ``sequences`` sequences.

    Without ``gpus`` and ``tensor_parallel`` the fewest GPUs are found, as one tensor-parallel
    group. Raises KvplanError for a model, dtype or layout that cannot be answered.
    """
    if not models or isinstance(models, str | Path | ModelSpec):
        raise UsageError("compare takes a list of models, one or more", 'compare(["llama3-70b"])')
    specs = [model if isinstance(model, ModelSpec) else load(model) for model in models]
    card = gpu if isinstance(gpu, Gpu) else load_gpu(gpu)
    asked = layout(gpus, tensor_parallel)
    work = Workload(context_tokens, sequences, kv_cache_dtype, draft)
    first = _whole(specs[0], work).total_bytes
    rows = tuple(_row(spec, work, card, asked, first) for spec in specs)
    return Comparison(rows, work, card, asked, _gpu_warnings(card))


def variants(model: str | Path | ModelSpec, kv_cache_dtype: str = "auto") -> list[ModelSpec]:
    """One model with multi-head attention, eight KV heads, one KV head, and as it is.

    All four name the KV dtype that is meant as their own, so that they are compared in one: a
    layout made for latents stands beside plain keys and values of the same bits. A model whose
    heads do not divide by eight goes without that variant. Raises UsageError for a model without
    attention.
    """
    spec = model if isinstance(model, ModelSpec) else load(model)
    dtype = resolved_format(spec, kv_cache_dtype)
    drawn = [_variant(spec, "MHA", None), _variant(spec, "GQA-8", 8), _variant(spec, "MQA", 1)]
    if drawn[0] is None:
        raise UsageError(f"{spec.name} has no attention to draw variants of")
    plain = [
        replace(variant, kv_cache_dtype=dtype.for_keys_and_values)
        for variant in drawn
        if variant is not None
    ]
    return [*plain, replace(spec, kv_cache_dtype=dtype.name)]


def _variant(spec: ModelSpec, label: str, kv_heads: int | None) -> ModelSpec | None:
    try:
        variant = as_full_attention(spec, kv_heads)
    except UsageError:
        return None
    return None if variant is None else replace(variant, name=f"as {label}")


def _whole(spec: ModelSpec, work: Workload) -> Footprint:
    return footprint(
        spec, work.context_tokens, work.sequences, work.kv_cache_dtype, draft=work.draft
    )


def _row(spec: ModelSpec, work: Workload, gpu: Gpu, asked: Layout | None, first_bytes: int) -> Row:
    whole = _whole(spec, work)
    row = Row(
        spec=spec,
        footprint=whole,
        multi_head=multi_head_footprint(spec, whole),
        ratio_to_first=float(Fraction(whole.total_bytes, first_bytes)) if first_bytes else None,
        layout=None,
        gpu_count=None,
        max_context_tokens=None,
        context_unbounded=False,
        indivisible=False,
        warnings=cache_warnings(spec, whole, draft=work.draft),
    )
    if spec.weights_bytes is None:
        unknown = "weights are not known, so no GPU count (give parameters and weights in the spec)"
        return replace(row, warnings=(*row.warnings, unknown))
    return _laid_out(row, work, gpu, asked)


def _laid_out(row: Row, work: Workload, gpu: Gpu, asked: Layout | None) -> Row:
    sizes = tensor_parallel_sizes(row.spec)
    if asked is not None and asked.tensor not in sizes:
        problem = (
            f"its heads cannot be laid out over {asked.tensor} GPUs; "
            f"{', '.join(map(str, sizes))} can"
        )
        return replace(row, indivisible=True, warnings=(*row.warnings, problem))
    where = asked or smallest_layout(row.spec, work, gpu)
    if where is None:
        most = Layout(sizes[-1])
        problem = _shortfall(row.spec, work, gpu, most)
        return replace(row, max_context_tokens=0, warnings=(*row.warnings, problem))
    longest = max_context_tokens(row.spec, work, gpu, where)
    held = fits(row.spec, work, gpu, where)
    problems = () if held else (_shortfall(row.spec, work, gpu, where),)
    return replace(
        row,
        layout=where,
        gpu_count=where.gpus if held else None,
        max_context_tokens=longest,
        context_unbounded=longest is None,
        warnings=(*row.warnings, *problems),
    )


def _shortfall(spec: ModelSpec, work: Workload, gpu: Gpu, where: Layout) -> str:
    cache_bytes = on_one_gpu(spec, work, where).total_bytes
    weights_bytes = gpu.memory_bytes - room_for_cache_bytes(spec, gpu, where)
    return (
        f"does not fit: each of {where.gpus} GPUs would need {gib(weights_bytes + cache_bytes)} "
        f"({gib(weights_bytes)} weights, {gib(cache_bytes)} cache) and has {gib(gpu.memory_bytes)}"
    )


def cache_warnings(spec: ModelSpec, whole: Footprint, *, draft: bool) -> tuple[str, ...]:
    """What is to be said beside any answer that sizes this model at this context."""
    found = list(spec.assumptions)
    if spec.not_counted and spec.weights_bytes is not None:
        left_out = ", ".join(spec.not_counted)
        found.append(f"weights leave out what could not be counted: {left_out}")
    native = spec.native_context_tokens
    if native is not None and whole.context_tokens > native:
        found.append(
            f"{whole.context_tokens:,} tokens is beyond its native context of {native:,}; "
            "sized all the same"
        )
    if whole.cross_attention_bytes_per_sequence:
        found.append(
            f"the cache includes cross-attention for one full encoder input a sequence "
            f"({gib(whole.cross_attention_bytes_per_sequence)})"
        )
    found += format_warnings(whole)
    if draft and spec.draft:
        found.append("draft layers are in the cache, their weights are not in the weights")
    if draft and not spec.draft:
        found.append("the spec names no draft layers, so none are counted")
    return tuple(found)


def format_warnings(whole: Footprint) -> tuple[str, ...]:
    """What engines do otherwise with this KV dtype than the plain arithmetic does."""
    dtype = whole.kv_cache_dtype
    roles = {slot.role for line in whole.lines for slot in line.slots}
    if "latent" not in roles:
        return ()
    sparse = "index_key" in roles
    if sparse and dtype in ("fp8", "fp8_e4m3"):
        kept = "vLLM and SGLang on Hopper keep this model's as fp8_ds_mla (656 B an entry)"
        return (f"{dtype} is counted as plain fp8; {kept}",)
    if not sparse and dtype.endswith("_ds_mla"):
        return (f"{dtype} is a layout for sparse attention; engines refuse it for this model",)
    if dtype == "nvfp4":
        return ("nvfp4 latents: SGLang and TensorRT-LLM have them, vLLM 0.33.0 does not",)
    return ()


def _gpu_warnings(gpu: Gpu) -> tuple[str, ...]:
    if gpu.memory_basis != "driver-log":
        return ()
    size = gib(gpu.memory_bytes)
    return (f"{gpu.name}: {size} is the driver's own figure; a process sees up to 3% less",)
