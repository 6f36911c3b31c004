"""A config.json is read to the byte, or refused by name; expected bytes are worked out by hand."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from kvplan.errors import KvplanError, RefusedError, SpecError
from kvplan.hf import read_config, to_yaml
from kvplan.registry import read_model
from kvplan.spec import ModelSpec

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
MLA: dict[str, Any] = {
    "num_attention_heads": 16,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "num_key_value_heads": 16,
    "head_dim": 72,
}
HEADS: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
# One key and one value of 2 x 64 in bf16: 512 B a token and layer.


def write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return folder


def spec_of(folder: Path, config: object) -> ModelSpec:
    return read_config(write(folder, config))[0]


def sizes(spec: ModelSpec) -> tuple[float, int]:
    whole = footprint(spec, 1_000, kv_cache_dtype="bf16")
    return float(whole.bytes_per_token), whole.fixed_bytes_per_sequence


def mixed(*types: str) -> dict[str, Any]:
    return {**HEADS, "num_hidden_layers": len(types), "layer_types": list(types)}


S, F, L = "sliding_attention", "full_attention", "linear_attention"

# name, config, bytes a token, fixed bytes a sequence
FAMILIES: list[tuple[str, dict[str, Any], float, int]] = [
    # 32 layers x 2 x 8 heads x 128 x 2 B
    ("llama", LLAMA, 131_072, 0),
    ("llama without kv heads", {**LLAMA, "num_key_value_heads": None}, 524_288, 0),
    ("head_dim of its own", {**LLAMA, "head_dim": 64}, 65_536, 0),
    ("gpt2", {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768}, 36_864, 0),
    # 2 layers x 2 x 1 head x 16 x 2 B
    (
        "gpt_bigcode",
        {"model_type": "gpt_bigcode", "n_layer": 2, "n_head": 4, "n_embd": 64, "multi_query": True},
        128,
        0,
    ),
    (
        "falcon-7b",
        {
            "model_type": "falcon",
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "hidden_size": 4544,
            "multi_query": True,
            "num_kv_heads": 71,
        },
        8_192,
        0,
    ),
    (
        "falcon-40b",
        {
            "model_type": "falcon",
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "hidden_size": 8192,
            "multi_query": True,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
        },
        122_880,
        0,
    ),
    (
        "chatglm",
        {
            "model_type": "chatglm",
            "num_layers": 28,
            "num_attention_heads": 32,
            "hidden_size": 4096,
            "kv_channels": 128,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
        },
        28_672,
        0,
    ),
    (
        "dbrx",
        {
            "model_type": "dbrx",
            "n_layers": 40,
            "n_heads": 48,
            "d_model": 6144,
            "attn_config": {"kv_n_heads": 8},
        },
        163_840,
        0,
    ),
    (
        "step-3",
        {
            "model_type": "step3_text",
            "num_hidden_layers": 61,
            "num_attention_heads": 64,
            "num_attention_groups": 1,
            "head_dim": 256,
        },
        62_464,
        0,
    ),
    # a window on every layer: 32 x 4,096 x 4,096 B
    (
        "mistral-7b",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "mistral",
            "sliding_window": 4096,
            "max_position_embeddings": 32768,
        },
        0,
        536_870_912,
    ),
    (
        "mistral without",
        {**LLAMA, "architectures": None, "model_type": "mistral", "sliding_window": None},
        131_072,
        0,
    ),
    (
        "phi-3 window beyond context",
        {**LLAMA, "architectures": None, "model_type": "phi3", "sliding_window": 262144},
        131_072,
        0,
    ),
    (
        "qwen2 window switched off",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "qwen2",
            "sliding_window": 4096,
            "use_sliding_window": False,
            "max_window_layers": 28,
        },
        131_072,
        0,
    ),
    # 28 full and 4 sliding layers of 4,096 B
    (
        "qwen2 window switched on",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "qwen2",
            "sliding_window": 4096,
            "use_sliding_window": True,
            "max_window_layers": 28,
        },
        114_688,
        4 * 4096 * 4096,
    ),
    (
        "gemma2",
        {"model_type": "gemma2", **HEADS, "num_hidden_layers": 4, "sliding_window": 100},
        1_024,
        2 * 100 * 512,
    ),
    (
        "gemma3 one in six",
        {"model_type": "gemma3_text", **HEADS, "num_hidden_layers": 13, "sliding_window": 100},
        2 * 512,
        11 * 100 * 512,
    ),
    # class defaults of a nested text_config: 4 KV heads of 256, 4,096 B a layer
    (
        "gemma3-4b",
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "num_hidden_layers": 34,
                "sliding_window": 1024,
            },
        },
        5 * 4096,
        29 * 1024 * 4096,
    ),
    (
        "gemma3n shares the last layers",
        {
            "model_type": "gemma3n_text",
            **mixed(S, F, S, F),
            "sliding_window": 100,
            "num_kv_shared_layers": 2,
        },
        512,
        100 * 512,
    ),
    # full: 1 head of 128, two tensors in spite of k_eq_v: 512 B
    (
        "gemma4",
        {
            "model_type": "gemma4_text",
            **mixed(S, S, F),
            "sliding_window": 100,
            "num_kv_shared_layers": 0,
            "attention_k_eq_v": True,
            "global_head_dim": 128,
            "num_global_key_value_heads": 1,
        },
        512,
        2 * 100 * 512,
    ),
    (
        "exaone4 LLLG",
        {
            "model_type": "exaone4",
            **HEADS,
            "num_hidden_layers": 8,
            "sliding_window": 100,
            "sliding_window_pattern": "LLLG",
        },
        1_024,
        6 * 100 * 512,
    ),
    (
        "llama4",
        {
            "model_type": "llama4_text",
            **HEADS,
            "num_hidden_layers": 8,
            "attention_chunk_size": 100,
            "no_rope_layers": [],
        },
        1_024,
        6 * 100 * 512,
    ),
    # 512 + 64 of 2 B, once and not for each head
    ("mla", {"model_type": "deepseek_v3", "num_hidden_layers": 61, **MLA}, 70_272, 0),
    ("longcat", {"model_type": "longcat_flash", "num_layers": 28, **MLA}, 64_512, 0),
    # 10 x 1,152 and 3 index keys of 132 B
    (
        "shared indexers",
        {
            "model_type": "glm_moe_dsa",
            "num_hidden_layers": 10,
            **MLA,
            "index_head_dim": 128,
            "indexer_types": ["full"] * 3 + ["shared"] * 7,
        },
        11_520 + 396,
        0,
    ),
    # 512 x 2 B / 4 + 132 B / 4 + 512 x 2 B / 128; 3 windows of 8 x 1,024 B, then fp32 states
    (
        "deepseek v4",
        {
            "model_type": "deepseek_v4",
            "num_hidden_layers": 3,
            "head_dim": 512,
            "num_attention_heads": 64,
            "num_key_value_heads": 1,
            "qk_rope_head_dim": 64,
            "index_head_dim": 128,
            "sliding_window": 8,
            "compress_ratios": [0, 4, 128],
        },
        256 + 33 + 8,
        3 * 8 * 1024 + 65_536 + 16_384 + 524_288,
    ),
    (
        "minimax m3",
        {
            "model_type": "minimax_m3",
            **HEADS,
            "num_hidden_layers": 3,
            "sparse_attention_config": {
                "use_sparse_attention": True,
                "sparse_attention_freq": [0, 1, 1],
                "sparse_index_dim": 128,
            },
        },
        3 * 512 + 2 * 256,
        0,
    ),
    # conv (2 x 2 x 16 + 4 x 16) x 3 x 2 B, state 4 x 16 x 16 x 4 B
    (
        "qwen3-next",
        {
            "model_type": "qwen3_next",
            **HEADS,
            "num_hidden_layers": 4,
            "full_attention_interval": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4,
        },
        512,
        3 * (128 * 3 * 2 + 4_096),
    ),
    # layers count from one; conv 3 x 2 x 16 x 3 x 2 B, state 2 x 16 x 16 x 4 B
    (
        "kimi linear",
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 2,
            **MLA,
            "linear_attn_config": {
                "full_attn_layers": [2],
                "kda_layers": [1],
                "num_heads": 2,
                "head_dim": 16,
                "short_conv_kernel_size": 4,
            },
        },
        1_152,
        576 + 2_048,
    ),
    # 8 heads x 64 x 64 x 4 B
    (
        "minimax-01",
        {
            "model_type": "minimax_text_01",
            **HEADS,
            "num_hidden_layers": 2,
            "attn_type_list": [0, 1],
        },
        512,
        131_072,
    ),
    # conv (4 x 16 + 2 x 2 x 8) x 3 x 2 B, state 4 x 16 x 8 x 4 B
    (
        "nemotron-h",
        {
            "model_type": "nemotron_h",
            **HEADS,
            "hybrid_override_pattern": "M-*E",
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 2,
            "ssm_state_size": 8,
            "conv_kernel": 4,
            "time_step_limit": [0, 1e308],
        },
        512,
        576 + 2_048,
    ),
    # one attention layer of 8; conv 2 x 64 x 3 x 2 B, state 128 x 16 x 4 B
    (
        "jamba",
        {
            "model_type": "jamba",
            **HEADS,
            "hidden_size": 64,
            "num_hidden_layers": 8,
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
        },
        512,
        7 * (768 + 8_192),
    ),
    # conv tail of 2 x 64 x 2 B
    (
        "lfm2",
        {"model_type": "lfm2", **mixed("conv", F), "hidden_size": 64, "conv_L_cache": 3},
        512,
        256,
    ),
    (
        "hunyuan cla",
        {
            "model_type": "hunyuan",
            **HEADS,
            "num_hidden_layers": 4,
            "use_cla": True,
            "cla_share_factor": 2,
        },
        1_024,
        0,
    ),
    (
        "hunyuan without",
        {
            "model_type": "hunyuan",
            **HEADS,
            "num_hidden_layers": 4,
            "use_cla": False,
            "cla_share_factor": 2,
        },
        2_048,
        0,
    ),
    # full 1 x (24 + 16) x 2 B; sliding 2 x 40 x 2 B
    (
        "mimo v2",
        {
            "model_type": "mimo_v2_flash",
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 24,
            "v_head_dim": 16,
            "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 2,
            "swa_head_dim": 24,
            "swa_v_head_dim": 16,
            "sliding_window": 10,
            "hybrid_layer_pattern": [0, 1],
        },
        80,
        1_600,
    ),
    (
        "nemotron-nas",
        {
            "model_type": "nemotron-nas",
            "num_hidden_layers": 2,
            "hidden_size": 512,
            "num_attention_heads": 8,
            "num_key_value_heads": None,
            "block_configs": [
                {"attention": {"n_heads_in_group": 4, "no_op": False}},
                {"attention": {"n_heads_in_group": None, "no_op": True}},
            ],
        },
        512,
        0,
    ),
]


@pytest.mark.parametrize(
    ("config", "per_token", "fixed"),
    [row[1:] for row in FAMILIES],
    ids=[row[0] for row in FAMILIES],
)
def test_family_is_right_to_the_byte(
    tmp_path: Path, config: dict[str, Any], per_token: float, fixed: int
) -> None:
    """Each family's small config gives the bytes that its figures multiply to."""
    assert sizes(spec_of(tmp_path, config)) == (per_token, fixed)


@pytest.mark.parametrize("config", [row[1] for row in FAMILIES], ids=[row[0] for row in FAMILIES])
def test_yaml_reads_back_to_the_same_spec(tmp_path: Path, config: dict[str, Any]) -> None:
    """What ``import`` writes is a spec file that means the same."""
    spec, provenance = read_config(write(tmp_path, config))
    path = tmp_path / "spec.yaml"
    path.write_text(to_yaml(spec, provenance), encoding="utf-8")
    assert read_model(path) == spec


def test_yaml_names_the_key_of_each_figure(tmp_path: Path) -> None:
    """Figures carry the config's own keys; interleaved layers become the smallest pattern."""
    folder = tmp_path / 'gemma: a "b"'
    folder.mkdir()
    config = {
        "model_type": "gemma2",
        **HEADS,
        "num_hidden_layers": 4,
        "sliding_window": 100,
        "max_position_embeddings": 8192,
        "torch_dtype": "float16",
    }
    spec, provenance = read_config(write(folder, config))
    text = to_yaml(spec, provenance).replace(str(tmp_path), "/models")
    assert (
        text
        == """name: "gemma: a \\"b\\""
source: "config.json of gemma2, /models/gemma: a \\"b\\"/config.json"
native_context_tokens: 8192  # key: max_position_embeddings
dtype: fp16  # key: torch_dtype
not_counted: ["everything: hidden_size is not in the file"]
layers: 4  # key: num_hidden_layers
pattern: [sliding, full]
groups:
  - name: sliding
    kind: sliding_window
    num_attention_heads: 8  # key: num_attention_heads
    num_key_value_heads: 2  # key: num_key_value_heads
    head_dim: 64  # key: head_dim
    sliding_window: 100  # key: sliding_window
  - name: full
    kind: full_attention
    num_attention_heads: 8  # key: num_attention_heads
    num_key_value_heads: 2  # key: num_key_value_heads
    head_dim: 64  # key: head_dim
"""
    )


def test_cross_attention_stands_apart(tmp_path: Path) -> None:
    """Mllama's crossed layer keeps 4 x (2² + 1) image tokens of 512 B and no text."""
    config = {
        "model_type": "mllama",
        "vision_config": {"image_size": 28, "patch_size": 14, "max_num_tiles": 4},
        "text_config": {
            "model_type": "mllama_text_model",
            **HEADS,
            "hidden_size": 512,
            "num_hidden_layers": 3,
            "cross_attention_layers": [1],
        },
    }
    whole = footprint(spec_of(tmp_path, config), 1_000, kv_cache_dtype="bf16")
    assert int(whole.bytes_per_token) == 1_024
    assert whole.cross_attention_bytes_per_sequence == 20 * 512


@pytest.mark.parametrize(
    ("key", "value", "layers"),
    [
        ("num_nextn_predict_layers", 1, 1),
        ("num_nextn_predict_layers", 0, 0),
        ("num_nextn_predict_layers", None, 0),
    ],
)
def test_draft_layers_stay_out_of_the_model(
    tmp_path: Path, key: str, value: int | None, layers: int
) -> None:
    """MTP layers are a draft: not in the layer count, and none where the file says none."""
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 2, **MLA, key: value}
    spec = spec_of(tmp_path, config)
    assert (spec.total_layers, sum(group.layers or 0 for group in spec.draft)) == (2, layers)


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131_072),  # Command-R
        ({"max_position_embeddings": 32768, "seq_length": 8192}, 8_192),  # Qwen-7B
        (
            {"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            32_768,
        ),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_native_context(tmp_path: Path, keys: dict[str, Any], tokens: int | None) -> None:
    """The context that the checkpoint has without being stretched."""
    assert spec_of(tmp_path, {**LLAMA, **keys}).native_context_tokens == tokens


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({"torch_dtype": "float16"}, "fp16"),
        ({"torch_dtype": None, "dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float32"}, "bf16"),
        ({"torch_dtype": None}, "bf16"),
    ],
)
def test_dtype(tmp_path: Path, keys: dict[str, Any], dtype: str) -> None:
    """fp32 files are served in bf16; a file without a dtype is, too, and every answer says so."""
    spec = spec_of(tmp_path, {**LLAMA, **keys})
    assert spec.dtype == dtype
    assert bool(spec.assumptions) == (
        keys.get("torch_dtype") == "float32" or not any(keys.values())
    )


FP8_GROUP = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    ("quantization", "scheme"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, None),
        ({"quant_method": "mxfp4"}, None),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": FP8_GROUP}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, None),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "NVFP4"}}, "nvfp4"),
        (
            {
                "quant_method": "quark",
                "export": {"kv_cache_group": ["*k_proj"]},
                "layer_quant_config": {"*k_proj": {"output_tensors": {"dtype": "fp8_e4m3"}}},
            },
            "fp8",
        ),
    ],
)
def test_kv_cache_scheme(tmp_path: Path, quantization: dict[str, Any], scheme: str | None) -> None:
    """Only a KV scheme makes the cache small; how weights are stored never does."""
    spec = spec_of(tmp_path, {**LLAMA, "quantization_config": quantization})
    assert spec.kv_cache_dtype == scheme


def test_modelopt_file_beside_the_config(tmp_path: Path) -> None:
    """hf_quant_config.json is read as well, and may not contradict the config."""
    beside = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside), encoding="utf-8")
    assert spec_of(tmp_path, LLAMA).kv_cache_dtype == "fp8"
    with pytest.raises(RefusedError, match="nvfp4"):
        spec_of(tmp_path, {**LLAMA, "quantization_config": {"kv_cache_quant_algo": "NVFP4"}})


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("unknown", {**LLAMA, "model_type": "novel", "architectures": ["NovelForCausalLM"]}, "novel"),
    ("unknown wrapper", {"model_type": "novel_vl", "text_config": LLAMA}, "novel_vl"),
    ("no model_type", {"hidden_size": 64}, "num_attention_heads"),
    ("another class", {**LLAMA, "architectures": ["NovelForCausalLM"]}, "NovelForCausalLM"),
    ("missing layers", {**LLAMA, "num_hidden_layers": None}, "num_hidden_layers is missing"),
    ("layers true", {**LLAMA, "num_hidden_layers": True}, "whole number, not true"),
    ("layers text", {**LLAMA, "num_hidden_layers": "32"}, "whole number, not '32'"),
    ("layers float", {**LLAMA, "num_hidden_layers": 32.0}, "whole number"),
    ("layers negative", {**LLAMA, "num_hidden_layers": -1}, "1 to 10000"),
    ("layers absurd", {**LLAMA, "num_hidden_layers": 10**18}, "1 to 10000"),
    ("heads zero", {**LLAMA, "num_attention_heads": 0}, "num_attention_heads"),
    ("heads do not divide", {**LLAMA, "num_key_value_heads": 5}, "evenly"),
    ("no whole head", {**LLAMA, "hidden_size": 4097}, "no multiple"),
    ("window unasked", {**LLAMA, "sliding_window": 4096}, "sliding_window is 4096"),
    ("latent unasked", {**LLAMA, "kv_lora_rank": 512}, "kv_lora_rank"),
    ("sharing unasked", {**LLAMA, "num_kv_shared_layers": 4}, "num_kv_shared_layers"),
    ("layer plan unasked", {**LLAMA, "layer_types": [S] * 32}, "layer_types"),
    ("dtype", {**LLAMA, "torch_dtype": "float8_e4m3fn"}, "float8_e4m3fn"),
    ("encoder and decoder", {**LLAMA, "is_encoder_decoder": True}, "is_encoder_decoder"),
    ("t5", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "t5"),
    (
        "window not said",
        {**LLAMA, "architectures": None, "model_type": "mistral"},
        "sliding_window is missing",
    ),
    (
        "unknown layer type",
        {"model_type": "gemma2", **mixed(S, "novel_attention"), "sliding_window": 9},
        "novel_attention",
    ),
    (
        "too few types",
        {"model_type": "gemma2", **mixed(S, F), "num_hidden_layers": 3, "sliding_window": 9},
        "2 entries for 3 layers",
    ),
    ("no window for it", {"model_type": "gemma2", **mixed(S, F)}, "sliding_window is missing"),
    (
        "pattern contradicts",
        {
            "model_type": "cohere2",
            **mixed(S, S, S, F),
            "sliding_window": 9,
            "sliding_window_pattern": 2,
        },
        "contradict",
    ),
    (
        "off and sliding",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "qwen2",
            "use_sliding_window": False,
            "layer_types": [S] * 32,
        },
        "is off",
    ),
    (
        "kda lists",
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 2,
            **MLA,
            "linear_attn_config": {"full_attn_layers": [1], "kda_layers": [0]},
        },
        "once",
    ),
    (
        "v4 ratio",
        {
            "model_type": "deepseek_v4",
            "num_hidden_layers": 1,
            "head_dim": 512,
            "compress_ratios": [2],
        },
        "compresses by 2",
    ),
    (
        "m2 with lightning",
        {"model_type": "minimax_m2", **HEADS, "num_hidden_layers": 1, "attn_type_list": [0]},
        "lightning",
    ),
    (
        "cla and mla",
        {"model_type": "hunyuan", **HEADS, "num_hidden_layers": 1, "use_mla": True},
        "use_mla",
    ),
    (
        "windowed nas block",
        {
            "model_type": "nemotron-nas",
            "num_hidden_layers": 1,
            "hidden_size": 64,
            "num_attention_heads": 8,
            "block_configs": [{"attention": {"n_heads_in_group": 4, "window_length": 9}}],
        },
        "window_length",
    ),
    (
        "int8 cache",
        {**LLAMA, "quantization_config": {"kv_cache_scheme": {"num_bits": 8, "type": "int"}}},
        "8 bits of 'int'",
    ),
    ("unknown cache", {**LLAMA, "quantization_config": {"kv_cache_quant_algo": "INT3"}}, "INT3"),
    ("unknown cache key", {**LLAMA, "quantization_config": {"kv_cache_bits": 2}}, "kv_cache_bits"),
    ("nan", {**LLAMA, "num_hidden_layers": float("nan")}, "whole number"),
]


@pytest.mark.parametrize(
    ("config", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """What is not known is refused with exit code 3, the file, the reason and a way out."""
    with pytest.raises(RefusedError) as caught:
        spec_of(tmp_path, config)
    assert message in caught.value.message
    assert "config.json" in caught.value.message
    assert "YAML spec" in (caught.value.hint or "")
    assert caught.value.exit_code == 3


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("truncated", b'{"model_type": "llama",\n "hidden', ":2: not JSON"),
    ("duplicate", b'{"a": 1,\n "a": 2}', ":2: 'a' is given twice"),
    ("list", b"[1]", ":1: a config.json is a JSON object"),
    ("empty", b" ", "empty"),
    ("binary", b"\x80\x04\x95", "not a text file"),
    ("deep", b"[" * 100_000, "nested too deeply"),
    ("digits", b'{"a": ' + b"9" * 5_000 + b"}", "not JSON"),
    ("large", b" " * ((16 << 20) + 1), "larger than"),
]


@pytest.mark.parametrize(
    ("content", "message"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES]
)
def test_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no config.json at all is a bad file: exit code 2."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_config(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_folder_without_a_config(tmp_path: Path) -> None:
    """A folder stands for the config.json in it."""
    with pytest.raises(SpecError, match=r"config\.json: cannot be read"):
        read_config(tmp_path)


def test_infinity_counts_only_where_it_is_used(tmp_path: Path) -> None:
    """Nemotron files hold Infinity in keys that size nothing."""
    text = json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")]})
    assert sizes(spec_of(tmp_path, text)) == (131_072, 0)


WILD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    10**18,
    10**400,
    1.5,
    float("inf"),
    float("nan"),
    "",
    "128",
    "full_attention",
    "\ud800",
    [],
    [1],
    [None],
    {},
    {"a": 1},
    [["x"]],
]


def mutated(draw: random.Random, config: dict[str, Any]) -> str:
    """The config with one to three changes, and now and then cut short."""
    changed = json.loads(json.dumps(config))
    for _ in range(draw.randint(1, 3)):
        place = changed
        nested = [value for value in changed.values() if isinstance(value, dict) and value]
        if nested and draw.random() < 0.6:
            place = draw.choice(nested)
        if not place:
            continue
        key = draw.choice(list(place))
        if draw.random() < 0.3:
            del place[key]
        elif isinstance(place[key], list) and place[key] and draw.random() < 0.5:
            place[key][draw.randrange(len(place[key]))] = copy.deepcopy(draw.choice(WILD))
        else:
            place[key] = copy.deepcopy(draw.choice(WILD))
    text = json.dumps(changed)
    return text[: draw.randrange(len(text))] if draw.random() < 0.05 else text


def test_mutated_configs_are_answered_or_refused(tmp_path: Path) -> None:
    """Whatever is in the file: a spec that can be sized and written, or a clean refusal."""
    draw = random.Random(20261121)  # noqa: S311
    configs = [row[1] for row in FAMILIES] + reference_configs()
    codes: set[int] = set()
    for _ in range(3_000):
        text = mutated(draw, draw.choice(configs))
        try:
            spec, provenance = read_config(write(tmp_path, text))
            footprint(spec, 4_096, kv_cache_dtype="bf16")
            assert to_yaml(spec, provenance)
        except KvplanError as error:
            codes.add(error.exit_code)
            str(error).encode()
    assert codes == {2, 3}


def reference_configs() -> list[dict[str, Any]]:
    """The real configs, where they are at hand."""
    return [
        json.loads(path.read_text()) for path in sorted(REFERENCE.glob("hf-configs*/*/config.json"))
    ]


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference configs are not at hand")
def test_every_reference_config_is_equal(tmp_path: Path) -> None:
    """132 real and reconstructed configs, to the byte, and written and read back the same.

    Two rules differ from the reference's own columns: an index key of DeepSeek sparse attention
    is 132 B where the file counts 256, and MiniMax-M3's is 256; recurrent state is fp32.
    """
    known = json.loads((REFERENCE / "kv-arithmetic.json").read_text())
    wrong = []
    for path in sorted(REFERENCE.glob("hf-configs*/*/config.json")):
        row = known[path.parent.name]
        index = row["idx_per_tok"] * (1 if row["model_type"] == "minimax_m3" else 132 / 256)
        spec, provenance = read_config(path.parent)
        whole = footprint(spec, 1_000, kv_cache_dtype="bf16")
        found = (*sizes(spec), whole.cross_attention_bytes_per_sequence)
        fixed = row["win_cap"] + row["state_bytes_recfp32"]
        written = tmp_path / f"{path.parent.name}.yaml"
        written.write_text(to_yaml(spec, provenance), encoding="utf-8")
        if found != (row["per_tok"] + index, fixed, row["cross"]) or read_model(written) != spec:
            wrong.append(path.parent.name)
    assert wrong == []


def test_importing_loads_no_model_library() -> None:
    """Reading a config needs no transformers, no torch and no network."""
    code = (
        "import sys, kvplan.hf; "
        "print([m for m in ('torch', 'transformers', 'yaml', 'huggingface_hub') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
