"""What vLLM refuses before it loads a model, in its own words.

vLLM 0.33.0 config/model.py:1542, verify_with_parallel_config; config/parallel.py:595;
v1/worker/cp_utils.py, check_attention_cp_compatibility.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvplan.dtypes import AUTO
from kvplan.engines.settings import ServerSettings
from kvplan.engines.versions import release_number
from kvplan.engines.vllm.architectures import RELEASE, first_release, model_class
from kvplan.engines.vllm.backends import backends
from kvplan.engines.vllm.blocks import is_state
from kvplan.engines.vllm.kernels import BLACKWELL
from kvplan.engines.vllm.models import as_vllm_keeps
from kvplan.engines.vllm.versions import NEWEST, Rules, rules_of
from kvplan.errors import RefusedError
from kvplan.formats import cache_format
from kvplan.gpu import Gpu
from kvplan.kinds import CacheKind
from kvplan.kinds.full_attention import AttentionHeads
from kvplan.kinds.mla import LatentAttention
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec

_PCP_AND_DCP = ("DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM")
"""models/deepseek_v32/attention.py:124, supports_pcp_dcp."""
_ONE_STAGE = ("AliceAIForCausalLM",)
"""Classes that refuse stages by themselves (models/config.py:53)."""

_LEAST_CAPABILITY = {"mxfp4": 80, "fp8": 75}
"""get_min_capability of the methods that store these (layers/quantization)."""


def check(spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> None:
    """Raises RefusedError, with vLLM's reason, where it would not start with these.

    ``spec`` is the model as its checkpoint has it.
    """
    kept = as_vllm_keeps(spec)
    _check_release(kept, layout, settings, gpu)
    _check_heads(kept, layout.tensor)
    _check_pipeline(kept, layout)
    _check_context_parallel(kept, layout)
    _check_prefill_parallel(kept, layout)
    _check_quantization(kept, gpu)
    _check_plain_dtype(kept, settings.kv_cache_dtype)
    _check_encoder(kept, settings)
    backends(kept, layout, settings, gpu, settings.kv_cache_dtype)
    _check_own_backends(kept, layout)


def _refuse(spec: ModelSpec, reason: str, hint: str = "") -> None:
    raise RefusedError(f"{spec.name}: {RELEASE} refuses it: {reason}", hint)


def _kinds(spec: ModelSpec) -> list[CacheKind]:
    seen = dict.fromkeys(kind for group in spec.groups for kind in group.caches)
    return [kind for kind in seen if kind.slots()]


def _check_release(spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> None:
    """Raises RefusedError for what an older release does not have, or does in a way not known."""
    rules = rules_of(settings)
    if rules.is_newest:
        return
    unknown = next(_unknown_of(rules, spec, layout, settings, gpu), None)
    if unknown is not None:
        raise RefusedError(
            f"{spec.name}: vLLM {rules.release}: {unknown}",
            f"its rules are known of {NEWEST.release}: leave @{rules.release} out",
        )


def _unknown_of(
    rules: Rules, spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu
) -> Iterator[str]:
    """What of this question an older release does not have, or is not known of it."""
    name = spec.architecture
    if name is not None:
        first = first_release(name)
        if first is None:
            yield f"how it serves {name} is not known"
        elif release_number(first) > release_number(rules.release):
            yield f"it does not serve {name}, which came in {first}"
    if settings.kv_cache_dtype.lower() not in rules.kv_cache_dtypes:
        yield f"it has no KV dtype {settings.kv_cache_dtype}"
    if layout.prefill > 1:
        yield "how it shares a prompt's tokens between GPUs is not known"
    if layout.context > 1 and not rules.divides_context:
        yield "it has no decode context parallelism"
    yield from _unknown_pages(rules, spec, gpu)


def _unknown_pages(rules: Rules, spec: ModelSpec, gpu: Gpu) -> Iterator[str]:
    kinds, name = _kinds(spec), spec.architecture or ""
    differing = _DIFFERING if rules.has_indexers else _DIFFERING | {"index_keys"}
    other = sorted({kind.kind for kind in kinds} & differing)
    if other:
        yield f"its pages of {', '.join(other)} are not known"
    has_latents = any(isinstance(kind, LatentAttention) for kind in kinds)
    if any(is_state(kind) for kind in kinds):
        if not rules.has_states or (has_latents and rules.latent_step_tokens is None):
            yield "its pages of recurrent states are not known"
        if name.startswith("NemotronH") and not rules.names_state_dtypes:
            yield "the dtype of its recurrent states is not known"
    major = int((gpu.compute_capability or "8.0").partition(".")[0])
    if has_latents and major >= BLACKWELL and rules.hopper_latent_tokens is not None:
        yield "its pages of latents on Blackwell are not known"
    if name.startswith("Cohere2") and not rules.widens_windows:
        yield "its windows are not known"


_DIFFERING = frozenset(
    {"compressed_kv", "latent_window", "compressor_state", "pool_tail", "cross_attention"}
)
"""Kinds of caches whose pages changed from release to release."""


def _check_heads(spec: ModelSpec, tensor: int) -> None:
    """Query heads divide; KV heads divide or are copied evenly, which the model classes assert."""
    for kind in _kinds(spec):
        heads = kind.query_heads()
        if heads is not None and heads % tensor:
            _refuse(
                spec,
                f"Total number of attention heads ({heads}) must be divisible by tensor parallel "
                f"size ({tensor}).",
            )
        if isinstance(kind, AttentionHeads):
            kv_heads = kind.num_key_value_heads
            if kv_heads % tensor and tensor % kv_heads:
                _refuse(
                    spec,
                    f"its model class asserts that tensor parallel size ({tensor}) divides the "
                    f"KV heads ({kv_heads}), or is a multiple of them",
                )


def _check_pipeline(spec: ModelSpec, layout: Layout) -> None:
    if layout.pipeline == 1:
        return
    served = model_class(spec)
    alone = spec.architecture in _ONE_STAGE
    if alone or (served is not None and not served.pipeline):
        _refuse(
            spec,
            "Pipeline parallelism is not supported for this model. Supported models implement the "
            "`SupportsPP` interface.",
        )
    if any(
        kind.kind == "short_conv" and getattr(kind, "split", "") == "whole" for kind in _kinds(spec)
    ):
        _refuse(spec, "Qwen4Exp N-gram PLE embedding requires pipeline_parallel_size=1")


def _check_context_parallel(spec: ModelSpec, layout: Layout) -> None:
    """config/parallel.py:595, config/model.py:1578."""
    tensor, context = layout.tensor, layout.context
    if context == 1:
        return
    if layout.prefill == 1 and tensor % context:
        _refuse(spec, f"tp_size={tensor} must be divisible by dcp_size={context}.")
    for kind in _kinds(spec):
        if kind.kind == "chunked_local":
            _refuse(spec, "DCP not support chunked local attn now.")
        if kind.fixed_entries() > 1 and kind.is_attention and not kind.per_encoder_input:
            _refuse(
                spec, "DCP not support sliding window.", "leave decode_context_parallel_size out"
            )
    if all(kind.query_heads() is None for kind in _kinds(spec)):
        _refuse(spec, "decode context parallelism divides attention's KV heads, and it has none.")
    attention = next((kind for kind in _kinds(spec) if isinstance(kind, AttentionHeads)), None)
    if attention is not None and not any(isinstance(k, LatentAttention) for k in _kinds(spec)):
        _check_grouped_context(spec, layout, attention)


def _check_grouped_context(spec: ModelSpec, layout: Layout, kind: AttentionHeads) -> None:
    tensor, context, kv_heads = layout.tensor, layout.context, kind.num_key_value_heads
    if tensor <= kv_heads:
        _refuse(
            spec,
            "Decode context parallelism for GQA/MQA requires `--tensor-parallel-size` "
            f"({tensor}) to be greater than the model's total number of KV heads ({kv_heads}). "
            "Increase `--tensor-parallel-size` or set `--decode-context-parallel-size 1`.",
        )
    most = tensor // kv_heads
    if context > most:
        _refuse(
            spec,
            f"`--decode-context-parallel-size` ({context}) exceeds the maximum supported value "
            f"({most}) for `--tensor-parallel-size` ({tensor}) and {kv_heads} model KV heads.",
        )
    shared = kind.num_attention_heads // kv_heads
    if shared % context:
        _refuse(
            spec,
            f"The model's number of query heads per KV head ({shared}) must be divisible by "
            f"`--decode-context-parallel-size` ({context}) for GQA/MQA.",
        )


def _check_prefill_parallel(spec: ModelSpec, layout: Layout) -> None:
    if layout.prefill == 1:
        return
    tensor, prefill, context = layout.tensor, layout.prefill, layout.context
    sizes = sorted({1, prefill, tensor * prefill})
    if context not in sizes:
        _refuse(
            spec,
            "When PCP is enabled, DCP must be disabled, span the PCP axis, or span the full TP x "
            f"PCP axis. Got TP={tensor}, PCP={prefill}, DCP={context}; valid DCP sizes are "
            f"{sizes}.",
        )
    if context > 1 and spec.architecture not in _PCP_AND_DCP:
        _refuse(spec, "MLAAttention does not support PCP+DCP.")


def _check_own_backends(spec: ModelSpec, layout: Layout) -> None:
    """Backends of a model's own and of recurrent states do not share a prompt's tokens.

    Those of DeepSeek-V4.1 do (models/deepseek_v41/sparse_mla.py:260).
    """
    if layout.prefill == 1 or (spec.architecture or "").startswith("DeepseekV41"):
        return
    for kind in _kinds(spec):
        shares = isinstance(kind, LatentAttention) or kind.kind == "index_keys"
        if not shares:
            _refuse(
                spec,
                "PCP requires attention backend support, but that of its "
                f"{kind.tag()} layers does not support PCP.",
            )


def _check_plain_dtype(spec: ModelSpec, kv_cache_dtype: str) -> None:
    """config/vllm.py:1492: 16-bit caches are in the model's own dtype."""
    names = {"bf16": "bfloat16", "fp16": "float16"}
    given = cache_format(kv_cache_dtype).name if kv_cache_dtype.lower() != AUTO else AUTO
    if given in names and given != spec.dtype:
        own = names.get(spec.dtype, "float32")
        _refuse(
            spec,
            f'kv_cache_dtype="{names[given]}" is incompatible with dtype="{own}". Please set '
            f"`--kv-cache-dtype` to `auto` or `{own}`.",
        )


def _check_encoder(spec: ModelSpec, settings: ServerSettings) -> None:
    """v1/core/encoder_cache_manager.py:362: an encoder's input is not divided over steps."""
    tokens = settings.max_num_batched_tokens
    for kind in _kinds(spec):
        if kind.per_encoder_input and tokens is not None and kind.entries(1) > tokens:
            _refuse(
                spec,
                f"Chunked MM input disabled but max_tokens_per_mm_item ({kind.entries(1)}) is "
                f"larger than max_num_batched_tokens ({tokens}). Please increase "
                "max_num_batched_tokens.",
            )


def _check_quantization(spec: ModelSpec, gpu: Gpu) -> None:
    """config/vllm.py:930."""
    if gpu.compute_capability is None:
        return
    major, _, minor = gpu.compute_capability.partition(".")
    capability = 10 * int(major) + int(minor)
    for stored in dict.fromkeys(row.dtype for row in spec.weights):
        least = _LEAST_CAPABILITY.get(stored, 0)
        if capability < least:
            _refuse(
                spec,
                f"The quantization method {stored} is not supported for the current GPU. Minimum "
                f"capability: {least}. Current capability: {capability}.",
            )
