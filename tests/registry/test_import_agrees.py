"""The catalogue by name says what an import of the model's own config.json says."""

from __future__ import annotations

import json
from collections import Counter

import pytest

import kvplan
from kvplan.errors import UsageError
from kvplan.kinds import CacheKind
from kvplan.spec import ModelSpec
from tests.hf.configs import REFERENCE
from tests.hf.models import MODELS, spec_of

# Where the two differ: parts of the weights, or facts of the spec.

BOUNDED = {
    # No key tells a dtype, or whether scales of the KV cache are stored: an import takes the most
    # that it can be, and says so; the catalogue has what the published bytes show.
    "ai21labs/AI21-Jamba-1.5-Large": {"recurrent"},
    "mistralai/Devstral-2-123B-Instruct-2512": {"attention", "dense_mlp"},
    "mistralai/Devstral-Small-2-24B-Instruct-2512": {"attention", "dense_mlp"},
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": {"recurrent"},
    "nvidia/DeepSeek-V3.1-NVFP4": {"attention"},
    "nvidia/DeepSeek-V3.2-NVFP4": {"attention"},
    "nvidia/Gemma-4-26B-A4B-NVFP4": {"attention"},
    "nvidia/GLM-5-NVFP4": {"attention"},
    "nvidia/Kimi-K2.5-NVFP4": {"attention"},
    "nvidia/Llama-3.1-70B-Instruct-FP8": {"attention"},
    "nvidia/MiniMax-M2.7-NVFP4": {"attention"},
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4": {"attention"},
    "nvidia/Qwen3-235B-A22B-NVFP4": {"attention"},
    "nvidia/Qwen3.5-397B-A17B-NVFP4": {"attention"},
    "nvidia/Qwen3.6-35B-A3B-NVFP4": {"attention", "recurrent"},
    "poolside/Laguna-S-2.1-FP8": {"attention", "routed_experts"},  # scales of the KV cache
    "Qwen/Qwen3-32B-FP8-Static-PerTensor": {"attention"},
    "Qwen/Qwen3-Next-80B-A3B-Thinking": {"recurrent", "draft"},  # no key of an MTP layer either
    "Qwen/Qwen3.6-35B-A3B": {"recurrent"},
    "state-spaces/mamba2-2.7b": {"recurrent"},
    "tiiuae/Falcon-H1-3B-Instruct": {"recurrent"},
    "tiiuae/Falcon-H1-7B-Instruct": {"recurrent"},
}
UNCOUNTED = {
    # An import says that it does not know these weights, as something is missing in the file.
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4": set[str](),
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8": set[str](),
    "stepfun-ai/Step-3.7-Flash": {"groups"},  # nor the heads of its sliding layers
    "stepfun-ai/Step-3.7-Flash-FP8": {"groups"},
    "tencent/Tencent-Hunyuan-Large": set[str](),
    "XiaomiMiMo/MiMo-V2-Flash": set[str](),
}
OTHERS = {
    # These files name no dtype, and their checkpoints are in fp32.
    "bigcode/gpt_bigcode-santacoder": {"attention", "dense_mlp", "embedding", "norm"},
    "openai-community/gpt2": {"attention", "dense_mlp", "embedding", "norm", "other"},
    "openai-community/gpt2-xl": {"attention", "dense_mlp", "embedding", "norm", "other"},
    # These checkpoints store tables that the model can make by itself.
    "meta-llama/Llama-2-7b-hf": {"other"},
    "meta-llama/Llama-2-70b-hf": {"other"},
    "moonshotai/Kimi-K2-Instruct": {"other"},
    # The file does not speak of the tower, or an import has no count of it.
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": {"parameters", "vision"},
    "MiniMaxAI/MiniMax-M3": {"parameters", "vision", "router"},
    "mistralai/Ministral-3-8B-Base-2512": {"parameters", "vision"},
    "mistralai/Mistral-Large-3-675B-Base-2512": {"parameters", "vision"},
    # The file that is at hand does not say what is quantised.
    "moonshotai/Kimi-K2-Thinking": {"routed_experts", "other"},
    "nvidia/DeepSeek-V3-0324-NVFP4": {
        "attention",
        "dense_mlp",
        "routed_experts",
        "shared_experts",
    },
    "nvidia/Qwen3-30B-A3B-NVFP4": {"attention", "routed_experts"},
}
DIFFERENCES = BOUNDED | UNCOUNTED | OTHERS

FACTS = ("native_context_tokens", "dtype", "kv_cache_dtype", "draft", "hidden_size")
OF_WEIGHTS = ("parameters", "routed_experts", "expert_intermediate_size", "vocab_size")


def catalogued(name: str) -> ModelSpec | None:
    try:
        return kvplan.load(name)
    except UsageError:
        return None


SHARED = [name for name in MODELS if catalogued(name)]


def layers(spec: ModelSpec) -> list[tuple[CacheKind, ...]]:
    return [spec.groups[index].caches for index in spec.layer_order()]


def rows(spec: ModelSpec) -> Counter[tuple[str | None, str, str | None]]:
    counter: Counter[tuple[str | None, str, str | None]] = Counter()
    for row in spec.weights:
        counter[row.part, row.dtype, row.what] += row.elements
    return counter


def differences(one: ModelSpec, other: ModelSpec, facts: tuple[str, ...]) -> set[str]:
    different = {fact for fact in facts if getattr(one, fact) != getattr(other, fact)}
    return different | ({"groups"} if layers(one) != layers(other) else set())


def unlike_parts(one: ModelSpec, other: ModelSpec) -> set[str]:
    rows_one, rows_other = rows(one), rows(other)
    keys = rows_one.keys() | rows_other.keys()
    return {str(key[0]) for key in keys if rows_one[key] != rows_other[key]}


@pytest.mark.parametrize("name", SHARED)
def test_a_name_and_its_file_mean_the_same(name: str) -> None:
    by_name, by_file = kvplan.load(name), spec_of(name)
    facts = FACTS if name in UNCOUNTED else FACTS + OF_WEIGHTS
    different = differences(by_name, by_file, facts)
    if name in UNCOUNTED:
        assert not by_file.weights
        assert by_file.not_counted or by_file.assumptions
    else:
        different |= unlike_parts(by_name, by_file)
    assert different == DIFFERENCES.get(name, set())


@pytest.mark.parametrize("name", BOUNDED)
def test_what_a_file_leaves_open_is_within_the_bytes_that_it_allows(name: str) -> None:
    by_name, by_file = kvplan.load(name).weights_bytes, spec_of(name).weights_bytes
    assert by_name is not None
    assert by_file is not None
    assert 0.999 * by_file < by_name < by_file
    assert any("upper bound" in text for text in spec_of(name).assumptions)


def test_the_architecture_is_the_files() -> None:
    named = [name for name in SHARED if spec_of(name).architecture]
    assert {kvplan.load(name).architecture == spec_of(name).architecture for name in named} == {
        True
    }


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference configs are not at hand")
def test_the_architecture_is_the_published_files() -> None:
    """But for MiniMax-M3, which vLLM does not know by the class of its own file."""
    unlike = set()
    for path in (REFERENCE / "hf-configs").glob("*/config.json"):
        name = path.parent.name.removesuffix("__unsloth-mirror").replace("__", "/")
        try:
            known = kvplan.load(name)
        except UsageError:
            continue
        if json.loads(path.read_text())["architectures"][0] != known.architecture:
            unlike.add(known.name)
    assert unlike == {"minimax-m3"}


def test_every_difference_is_of_a_model_that_is_compared() -> None:
    assert set(SHARED) >= set(DIFFERENCES)
    assert len(SHARED) >= 130
