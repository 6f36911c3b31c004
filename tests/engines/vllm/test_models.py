"""The caches that vLLM's model classes register, where they are not what the model needs.

Expectations are read in vLLM 0.33.0's own files, which each test names.
"""

from __future__ import annotations

from typing import Any

import pytest

import kvplan
from kvplan.dtypes import BesideDtypes
from kvplan.engines.vllm.models import as_vllm_keeps
from kvplan.errors import RefusedError
from kvplan.groups import Group
from kvplan.kinds import CacheKind
from kvplan.kinds.full_attention import FullAttention
from kvplan.kinds.kv_shared import KVShared
from kvplan.kinds.recurrent import GatedDeltaNet, KimiDeltaAttention, Mamba1, Mamba2
from kvplan.kinds.sliding_window import ChunkedLocal, SlidingWindow
from kvplan.spec import ModelSpec

HEADS: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
FULL, WINDOW = FullAttention(**HEADS), SlidingWindow(**HEADS, sliding_window=512)


def kinds(spec: ModelSpec) -> list[CacheKind]:
    return [kind for group in spec.groups for kind in group.caches]


def of(architecture: str | None, *caches: CacheKind) -> ModelSpec:
    return ModelSpec(
        name="small",
        source="made for this test",
        architecture=architecture,
        native_context_tokens=4_096,
        dtype="bf16",
        groups=tuple(Group(layers=2, caches=(cache,)) for cache in caches),
    )


def test_minicpm3_keeps_keys_and_values_of_all_heads() -> None:
    """minicpm3.py:126: 62 layers x 40 heads x (96 + 96) x 2 B = 952,320 B, not 35,712 of latents.

    Values are padded to the 96 of the keys (line 174): vLLM 0.33.0 answered 15,360 B a layer.
    """
    (kind,) = kinds(as_vllm_keeps(kvplan.load("minicpm3-4b")))
    assert kind == FullAttention(num_attention_heads=40, num_key_value_heads=40, head_dim=96)


@pytest.mark.parametrize(
    ("model", "kind", "dtype"),
    [
        # layers/mamba/mamba_utils.py, _mamba_state_dtype: the convolution's, so the model's.
        ("jamba-v0.1", Mamba1, "bf16"),
        ("granite-4.0-h-tiny", Mamba2, "bf16"),
        ("falcon-h1-7b", Mamba2, "bf16"),
        ("qwen3-next-80b-a3b", GatedDeltaNet, "bf16"),
        # models/config.py:815 and 953: Nemotron-H and Qwen3.5 name theirs.
        ("nemotron-h-56b", Mamba2, "fp32"),
        ("qwen3.5-35b-a3b", GatedDeltaNet, "fp32"),
        # mamba_utils.py:130: delta attention is kept in float32.
        ("kimi-linear-48b-a3b", KimiDeltaAttention, "fp32"),
    ],
)
def test_the_dtype_of_states(model: str, kind: type[CacheKind], dtype: str) -> None:
    states = [each for each in kinds(as_vllm_keeps(kvplan.load(model))) if isinstance(each, kind)]
    assert {getattr(state, "state_dtype") for state in states} == {dtype}  # noqa: B009


def test_an_option_of_the_convolution_is_the_states_too() -> None:
    """Both stay open, for --mamba-cache-dtype to decide."""
    spec = as_vllm_keeps(kvplan.load("jamba-v0.1"), BesideDtypes(mamba_cache_dtype="float32"))
    assert {kind.state_dtype for kind in kinds(spec) if isinstance(kind, Mamba1)} == {None}


def test_a_window_of_cohere_holds_one_token_more() -> None:
    """commandr.py:244."""
    spec = as_vllm_keeps(kvplan.load("command-r7b"))
    windows = {kind.sliding_window for kind in kinds(spec) if isinstance(kind, SlidingWindow)}
    assert windows == {4_097}


def test_windows_of_some_layers() -> None:
    """qwen2.py:351 asserts against them, qwen3.py names none; Llama's class applies them."""
    with pytest.raises(RefusedError, match="Sliding window for some but all layers is not"):
        as_vllm_keeps(of("Qwen2ForCausalLM", FULL, WINDOW))
    assert kinds(as_vllm_keeps(of("Qwen3ForCausalLM", FULL, WINDOW))) == [FULL, FULL]
    assert kinds(as_vllm_keeps(of("LlamaForCausalLM", FULL, WINDOW))) == [FULL, WINDOW]
    assert kinds(as_vllm_keeps(of("Qwen3ForCausalLM", WINDOW, WINDOW))) == [WINDOW, WINDOW]


def test_a_window_as_long_as_the_context_stays_one() -> None:
    """Phi-3-mini-128k: vLLM 0.33.0 registered SlidingWindowSpec with 262,144 over 4,096 tokens."""
    (kind,) = kinds(as_vllm_keeps(kvplan.load("phi-3-mini-128k")))
    assert isinstance(kind, SlidingWindow)
    assert kind.sliding_window == 262_144


def test_the_transformers_backend_gives_every_layer_a_cache() -> None:
    """transformers/base.py, _create_attention_instances: no sharing, and no chunks."""
    shared, chunks = KVShared(**HEADS), ChunkedLocal(**HEADS, attention_chunk_size=512)
    spec = of("Olmo3ForCausalLM", FULL, WINDOW, shared, chunks)
    assert kinds(as_vllm_keeps(spec)) == [FULL, WINDOW, FULL, FULL]
    with pytest.raises(RefusedError, match="by its Transformers backend"):
        as_vllm_keeps(kvplan.load("llama3.2-11b-vision"))


def test_a_scheme_that_only_hf_quant_config_names_is_not_read() -> None:
    """transformers_utils/config.py:956: vLLM 0.33.0 kept Qwen3.6-35B-A3B-NVFP4 in bf16."""
    spec = kvplan.load("qwen3.6-35b-a3b-nvfp4")
    assert spec.kv_cache_dtype == "fp8"
    assert as_vllm_keeps(spec).kv_cache_dtype is None


def test_what_is_kept_as_it_is_is_the_same_spec() -> None:
    spec = kvplan.load("qwen3-8b")
    assert as_vllm_keeps(spec) is spec
