"""What a tensor of a checkpoint is, by its name; what it holds, by what lies beside it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.hf.checkpoint import read_checkpoint
from kvplan.hf.header_weights import header_weights
from kvplan.hf.headers import StoredTensor
from kvplan.stored import Parameters
from kvplan.weights import active_experts
from tests.hf.safetensors_files import BITS, Tensors, size_bytes, write
from tests.hf.small_llama import UNKNOWN, llama, read, rows


def stored(folder: Path, tensors: Tensors) -> tuple[StoredTensor, ...]:
    write(folder / "model.safetensors", tensors)
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint.tensors


# A linear layer of 32 rows and 64 columns, as each method stores it: 2,048 weights.
QUANTISED: dict[str, tuple[Tensors, dict[str, Any], dict[tuple[str, str | None], int]]] = {
    "gptq": (
        {
            "qweight": ("I32", (8, 32)),
            "qzeros": ("I32", (2, 4)),
            "scales": ("F16", (2, 32)),
            "g_idx": ("I32", (64,)),
            "bias": ("F16", (32,)),
        },
        {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}},
        {
            ("int4", None): 2048,
            ("int32", "zero points"): 8,
            ("fp16", "scales"): 64,
            ("int32", "order"): 64,
            ("fp16", None): 32,
        },
    ),
    "gptq, 3 bits": (
        {"qweight": ("I32", (6, 32)), "scales": ("F16", (2, 32))},
        {"quantization_config": {"bits": 3}},
        {("int32", "packed"): 192, ("fp16", "scales"): 64},
    ),
    "compressed-tensors": (
        {
            "weight_packed": ("I32", (32, 8)),
            "weight_scale": ("BF16", (32, 2)),
            "weight_shape": ("I64", (2,)),
        },
        {
            "quantization_config": {
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 4}, "input_activations": {"num_bits": 8}}
                }
            }
        },
        {("int4", None): 2048, ("bf16", "scales"): 64, ("int64", "shapes"): 2},
    ),
    "mlx": (
        {"weight": ("U32", (32, 8)), "scales": ("BF16", (32, 1)), "biases": ("BF16", (32, 1))},
        {"quantization": {"group_size": 64, "bits": 4}},
        {("int4", None): 2048, ("bf16", "scales"): 32, ("bf16", "zero points"): 32},
    ),
    "fp8 blocks": (
        {"weight": ("F8_E4M3", (32, 64)), "weight_scale_inv": ("F32", (1, 1))},
        {},
        {("fp8", None): 2048, ("fp32", "scales"): 1},
    ),
    "nvfp4": (
        {
            "weight": ("U8", (32, 32)),
            "weight_scale": ("F8_E4M3", (32, 4)),
            "weight_scale_2": ("F32", ()),
            "input_scale": ("F32", ()),
        },
        {},
        {("fp4", None): 2048, ("fp8", "scales"): 128, ("fp32", "scales"): 2},
    ),
    "deepseek-v4": (
        {"weight": ("I8", (32, 32)), "scale": ("F8_E8M0", (32, 2))},
        {},
        {("fp4", None): 2048, ("e8m0", "scales"): 64},
    ),
    "int8": (
        {"weight": ("I8", (32, 64)), "weight_scale": ("F32", (32, 1))},
        {},
        {("int8", None): 2048, ("fp32", "scales"): 32},
    ),
    "bitsandbytes nf4": (
        {
            "weight": ("U8", (1024, 1)),
            "weight.absmax": ("U8", (32,)),
            "weight.quant_map": ("F32", (16,)),
            "weight.quant_state.nf4": ("U8", (80,)),
        },
        {"quantization_config": {"load_in_4bit": True}},
        {("uint8", "packed"): 1024, ("uint8", "scales"): 112, ("fp32", "scales"): 16},
    ),
    "exl3": (
        {"trellis": ("I16", (2, 4, 64)), "suh": ("F16", (64,)), "svh": ("F16", (32,))},
        {},
        {("int16", "packed"): 512, ("fp16", "scales"): 96},
    ),
}


@pytest.mark.parametrize("method", QUANTISED)
def test_quantised_layers_are_weighed_as_they_lie_in_the_file(tmp_path: Path, method: str) -> None:
    tensors, config, expected = QUANTISED[method]
    layer = {f"model.layers.0.mlp.up_proj.{name}": tensor for name, tensor in tensors.items()}
    layer["model.layers.0.self_attn.attn.k_scale"] = ("F32", ())
    spec = read(tmp_path, layer, {**UNKNOWN, **config}, "full_attention")
    mlp = {(dtype, what): n for (part, dtype, what), n in rows(spec).items() if part == "dense_mlp"}
    assert mlp == expected
    assert rows(spec)["attention", "fp32", "scales"] == 1
    assert spec.weights_bytes == sum(size_bytes(*tensor) for tensor in layer.values())
    packed = any(what == "packed" for _, what in expected)
    total = 2048 + (32 if method == "gptq" else 0)
    assert spec.parameters == (None if packed else Parameters(total=total, active=total))
    assert any("parameters are not known" in note for note in spec.assumptions) == packed


def test_experts_of_one_tensor_and_of_many(tmp_path: Path) -> None:
    """gpt-oss stores all experts of a layer together, MXFP4 in blocks of 16 bytes."""
    root = "model.layers.0.mlp.experts"
    together: Tensors = {
        f"{root}.gate_up_proj_blocks": ("U8", (4, 32, 2, 16)),
        f"{root}.gate_up_proj_scales": ("U8", (4, 32, 2)),
        f"{root}.gate_up_proj_bias": ("BF16", (4, 32)),
        "model.layers.0.mlp.router.weight": ("BF16", (4, 64)),
    }
    weights = header_weights(stored(tmp_path, together), 1)
    assert (weights.routed_experts, weights.expert_intermediate_size) == (4, None)
    assert {(row.part, row.dtype, row.what): row.elements for row in weights.rows} == {
        ("routed_experts", "fp4", None): 4 * 32 * 64,
        ("routed_experts", "bf16", None): 4 * 32,
        ("routed_experts", "uint8", "scales"): 4 * 32 * 2,
        ("router", "bf16", None): 256,
    }
    many: Tensors = {f"{root}.{i}.down_proj.weight": ("BF16", (2, 2)) for i in range(12)}
    assert header_weights(stored(tmp_path, many), 1).routed_experts == 12


EXPERT_SHAPES = {
    "gated": ({"gate_proj": (48, 64), "up_proj": (48, 64), "down_proj": (64, 48)}, 48),
    "ungated": ({"up_proj": (48, 64), "down_proj": (64, 48)}, 48),
    "mixtral": ({"w1": (48, 64), "w3": (48, 64), "w2": (64, 48)}, 48),
    "packed columns": ({"up_proj": (48, 32), "down_proj": (64, 24)}, None),
    "no last matrix": ({"up_proj": (48, 64)}, None),
}


@pytest.mark.parametrize("shapes", EXPERT_SHAPES)
def test_width_of_an_expert_only_where_its_matrices_agree(tmp_path: Path, shapes: str) -> None:
    matrices, width = EXPERT_SHAPES[shapes]
    tensors: Tensors = {
        f"model.layers.0.mlp.experts.{expert}.{name}.weight": ("F8_E4M3", shape)
        for expert in range(2)
        for name, shape in matrices.items()
    }
    assert header_weights(stored(tmp_path, tensors), 1).expert_intermediate_size == width


def test_packed_experts_are_none_of_the_bytes_that_a_step_is_sure_to_read(tmp_path: Path) -> None:
    root = "model.layers.0.mlp.experts.0.up_proj"
    tensors: Tensors = {f"{root}.qweight": ("I32", (8, 32)), f"{root}.scales": ("F16", (2, 32))}
    spec = read(tmp_path, {**llama(), **tensors}, UNKNOWN, "full_attention")
    assert active_experts(spec) == 0.0


PARTS = {
    "embedding": ["transformer.wte.weight", "tok_embeddings.weight", "embed.weight"],
    "lm_head": ["lm_head.weight", "output.weight", "transformer.output_layer.weight"],
    "attention": [
        "transformer.h.0.attn.c_attn.weight",
        "layers.0.attention.wq.weight",
        "model.layers.0.self_attn.sinks",
        "model.language_model.layers.0.self_attn.q_proj.weight",
        "model.decoder.layers.0.encoder_attn.k_proj.weight",
    ],
    "attention_down": ["model.layers.0.self_attn.kv_a_proj_with_mqa.weight"],
    "dense_mlp": ["transformer.h.0.mlp.c_fc.weight", "layers.0.feed_forward.w1.weight"],
    "routed_experts": [
        "model.layers.0.block_sparse_moe.experts.7.w1.weight",
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.switch_mlp.up_proj.weight",
    ],
    "shared_experts": ["model.layers.0.mlp.shared_expert_gate.weight"],
    "router": [
        "model.layers.0.mlp.gate.weight",
        "model.layers.0.mlp.gate.e_score_correction_bias",
        "layers.0.gate.weight",
    ],
    "norm": ["model.norm.weight", "transformer.h.0.ln_1.bias", "model.layers.0.self_attn.k_norm"],
    "recurrent": [
        "model.layers.0.linear_attn.A_log",
        "model.layers.0.linear_attn.norm.weight",
        "backbone.layers.0.mixer.in_proj.weight",
    ],
    "indexer": ["model.layers.0.self_attn.indexer.k_norm.weight"],
    "vision": ["visual.blocks.40.attn.qkv.weight", "model.vision_tower.encoder.layers.9.mlp.fc1"],
    "audio": ["thinker.audio_tower.layers.30.self_attn.k_proj.weight"],
    "other": ["model.layers.0.altup.correction_coefs.weight"],
}


@pytest.mark.parametrize("part", PARTS)
def test_parts_by_the_names_of_many_families(tmp_path: Path, part: str) -> None:
    tensors: Tensors = dict.fromkeys(PARTS[part], ("BF16", (1,)))
    weights = header_weights(stored(tmp_path, tensors), 1)
    assert {row.part for row in weights.rows} == {part}
    assert weights.unknown == []


def test_what_is_not_the_text_model(tmp_path: Path) -> None:
    """Whisper's encoder is audio by its first convolution; what generates speech is left out."""
    root = "model.encoder.layers.0.self_attn.q_proj.weight"
    tensors: Tensors = {
        root: ("BF16", (3,)),
        "model.encoder.conv1.weight": ("BF16", (5,)),
        "talker.model.layers.0.mlp.up_proj.weight": ("BF16", (7,)),
        "token2wav.code2wav_bigvgan_model.conv_pre.weight": ("BF16", (9,)),
    }
    weights = header_weights(stored(tmp_path, tensors), 1)
    assert {(row.part, row.elements) for row in weights.rows} == {("audio", 8)}
    assert list(weights.omitted_bytes.values()) == [2 * (7 + 9)]


names = st.one_of(
    st.sampled_from([name for part in PARTS.values() for name in part]),
    st.from_regex(r"(model\.)?(layers\.\d\.)?[a-z_]{1,9}\.(weight|scale|qweight)", fullmatch=True),
    st.text(max_size=20).filter(lambda name: name != "__metadata__"),
)
shapes = st.lists(st.integers(0, 9), max_size=3).map(lambda shape: (*shape, 8))


@given(tensors=st.dictionaries(names, st.tuples(st.sampled_from(sorted(BITS)), shapes)))
def test_no_byte_is_lost_or_counted_twice(tensors: Tensors) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights = header_weights(stored(Path(folder), tensors), 3)
    total = sum(size_bytes(*tensor) for tensor in tensors.values())
    assert weights.size_bytes + sum(weights.omitted_bytes.values()) == total
