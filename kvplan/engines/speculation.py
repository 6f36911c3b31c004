"""What ``--speculative-config`` says, as vLLM 0.33.0 takes it (config/speculative.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kvplan.engines.json_options import json_object
from kvplan.errors import RefusedError, UsageError, nearest
from kvplan.units import positive

NAME = "speculative_config"
Drafter = Literal["layers", "model", "none"]
"""Who drafts: the model's own MTP layers, a second model, or no weights at all (ngram)."""

_READ = ("method", "model", "num_speculative_tokens", "kv_cache_dtype")
_HARMLESS = (
    *("enforce_eager", "moe_backend", "revision", "code_revision", "disable_padded_drafter_batch"),
    *("disable_lookahead_block_hashes", "use_local_argmax_reduction", "prompt_lookup_max"),
    *("prompt_lookup_min", "suffix_decoding_max_tree_depth", "suffix_decoding_max_cached_requests"),
    *("suffix_decoding_max_spec_factor", "suffix_decoding_min_token_prob", "draft_load_config"),
    *("rejection_sample_method", "synthetic_acceptance_rates", "synthetic_acceptance_length"),
    *("enable_adaptive_verification", "dspark_draft_topk", "xpress_topc"),
    *("fly_window_size", "fly_entropy_threshold", "fly_entropy_top_k"),
)
"""Keys that decide how tokens are drafted and accepted, not what caches and weights take."""
_NOT_KNOWN = (
    *("draft_tensor_parallel_size", "quantization", "attention_backend", "max_model_len"),
    *("index_share_for_mtp_iteration", "disable_eagle_block_drop", "draft_lm_head_quantization"),
    *("use_heterogeneous_vocab", "parallel_drafting", "num_speculative_tokens_per_batch_size"),
    "draft_sample_method",
)
"""Keys that may change what is allocated."""

_OF_LAYERS = (
    *("mtp", "deepseek_mtp", "dots3_note_mtp", "mimo_mtp", "mimo_v2_mtp", "glm4_moe_mtp"),
    *("glm4_moe_lite_mtp", "glm_ocr_mtp", "ernie_mtp", "nemotron_h_mtp", "exaone_moe_mtp"),
    *("exaone4_5_mtp", "qwen3_next_mtp", "qwen4_exp_mtp", "qwen3_5_mtp", "longcat_flash_mtp"),
    *("bailing_hybrid_v3_mtp", "minimax_m3_mtp", "bailing_hybrid_mtp", "kimi_k3_mtp"),
    *("pangu_ultra_moe_mtp", "step3p5_mtp", "step5_mtp", "hy_v3_mtp", "hy_v4_mtp", "inkling_mtp"),
    "glm5_next_mtp",
)
_OF_MODELS = ("eagle", "eagle3", "dflash", "dspark", "draft_model", "gemma4_mtp")
_OF_NOTHING = ("ngram", "ngram_gpu", "suffix")
_NOT_READ = ("extract_hidden_states", "custom_class")
METHODS = (*_OF_LAYERS, *_OF_MODELS, *_OF_NOTHING, *_NOT_READ)
"""SpeculativeMethod."""
_SUFFIX_TOKENS = 24
"""suffix_decoding_max_tree_depth, which is the number where none is given (line 1735)."""
_NGRAM = ("ngram", "[ngram]")


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """How tokens are drafted: ``model`` is a name or a file, where one is given.

    ``drafter`` is None where only the model tells: it may be the one that is served. With layers,
    a model that is given has to be the one that is served.
    """

    drafter: Drafter | None
    model: str | None
    num_speculative_tokens: int | None
    kv_cache_dtype: str
    text: str
    """The whole, as it was given, in one line of JSON."""


def read_speculation(given: str | Mapping[str, Any]) -> Speculation:
    """The drafting that this says. Raises UsageError, and RefusedError for what is not known."""
    config = {key: value for key, value in json_object(NAME, given).items() if value is not None}
    _check_keys(config)
    method, model = _text(config, "method"), _text(config, "model")
    if method is not None and method not in METHODS:
        near = nearest(method, METHODS) or ["mtp", "eagle3", "draft_model", "ngram"]
        raise UsageError(
            f"{NAME}: no method {method[:60]!r}", f"such as {', '.join(map(repr, near))}"
        )
    if method in _NOT_READ:
        raise RefusedError(f"{NAME}: what method {method} takes is not known")
    if method is None and model in _NGRAM:
        method, model = "ngram", None
    drafter = _drafter(method, model)
    if drafter == "none":
        model = None
    count = config.get("num_speculative_tokens")
    if count is None and method == "suffix":
        count = config.get("suffix_decoding_max_tree_depth", _SUFFIX_TOKENS)
    if count is not None:
        count = positive(f"{NAME}: num_speculative_tokens", count)
    return Speculation(
        drafter=drafter,
        model=model,
        num_speculative_tokens=count,
        kv_cache_dtype=_text(config, "kv_cache_dtype") or "auto",
        text=json.dumps(config),
    )


def _drafter(method: str | None, model: str | None) -> Drafter | None:
    """Who drafts. Raises UsageError where a method lacks its model, or neither is given."""
    if method in _OF_NOTHING:
        return "none"
    if method in _OF_LAYERS:
        return "layers"
    if model is None:
        what = f"method {method}" if method else "it"
        raise UsageError(
            f"{NAME}: {what} needs a model that drafts",
            'write {"method": "mtp", "num_speculative_tokens": 1}, or name a model',
        )
    return None if method is None else "model"


def _check_keys(config: Mapping[str, Any]) -> None:
    for key in config:
        if key in _NOT_KNOWN:
            raise RefusedError(
                f"{NAME}: kvplan does not know what {key} changes", "leave it out of the plan"
            )
        if key not in (*_READ, *_HARMLESS):
            near = nearest(key, (*_READ, *_HARMLESS))
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(_READ)}"
            raise UsageError(f"{NAME} has no key {key[:60]!r}", hint)


def _text(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise UsageError(f"{NAME}: {key} has to be a name, not {str(value)[:60]!r}")
    return value
