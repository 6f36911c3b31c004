"""Checkpoints whose totals huggingface.co prints, tensor by tensor, at their full size."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from kvplan.parallel import Layout
from kvplan.weights import StageLayers, weights_on_rank
from tests.hf.safetensors_files import Tensors, size_bytes
from tests.hf.small_llama import CONFIG, read

Shapes = dict[str, tuple[int, ...]]


def test_qwen3_0_6b_stores_its_tied_head(tmp_path: Path) -> None:
    """Its file has 751,632,384 elements, the model 596,049,920 parameters."""
    attention: Shapes = {"q_proj": (2048, 1024), "k_proj": (1024, 1024), "v_proj": (1024, 1024)}
    attention |= {"o_proj": (1024, 2048), "q_norm": (128,), "k_norm": (128,)}
    mlp = {"gate_proj": (3072, 1024), "up_proj": (3072, 1024), "down_proj": (1024, 3072)}
    modules: Shapes = {
        **{f"self_attn.{name}": shape for name, shape in attention.items()},
        **{f"mlp.{name}": shape for name, shape in mlp.items()},
        **dict.fromkeys(("input_layernorm", "post_attention_layernorm"), (1024,)),
    }
    shapes: Shapes = {
        f"model.layers.{index}.{name}": shape
        for index in range(28)
        for name, shape in modules.items()
    }
    shapes |= dict.fromkeys(("model.embed_tokens", "lm_head"), (151936, 1024))
    shapes["model.norm"] = (1024,)
    tensors: Tensors = {f"{name}.weight": ("BF16", shape) for name, shape in shapes.items()}
    assert sum(size_bytes(*tensor) for tensor in tensors.values()) == 2 * 751_632_384
    spec = read(tmp_path, tensors, QWEN3)
    assert spec.weights_bytes == 2 * 751_632_384
    assert spec.parameters is not None
    assert spec.parameters.total == 596_049_920
    lines = weights_on_rank(spec, Layout(1), StageLayers(28))
    assert sum(line.size_bytes for line in lines) == 2 * 596_049_920


QWEN3 = {
    **CONFIG,
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def test_deepseek_v3_without_its_draft_layer(tmp_path: Path) -> None:
    """Its 91,991 tensors have 684,531,386,000 elements, those of layer 61 and scales among them.

    The model itself has 671,026,404,352 parameters without the buffers of its routers.
    """
    tensors = deepseek_v3()
    assert len(tensors) == 91_991
    assert sum(prod(shape) for _, shape in tensors.values()) == 684_531_386_000
    spec = read(tmp_path, tensors, DEEPSEEK_V3)
    draft = {name: t for name, t in tensors.items() if name.startswith("model.layers.61.")}
    draft_bytes = sum(size_bytes(*tensor) for tensor in draft.values())
    all_bytes = sum(size_bytes(*tensor) for tensor in tensors.values())
    assert spec.weights_bytes == all_bytes - draft_bytes
    assert spec.parameters is not None
    assert spec.parameters.total == 671_026_404_352
    assert (spec.routed_experts, spec.expert_intermediate_size) == (256, 2048)
    assert [note.partition(" ")[0] for note in spec.assumptions] == [f"{draft_bytes:,}"]


HIDDEN, VOCABULARY = 7168, 129280
DEEPSEEK_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": HIDDEN,
    "vocab_size": VOCABULARY,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "topk_method": "noaux_tc",
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
}


def deepseek_v3() -> Tensors:
    ends: Shapes = {"model.norm": (HIDDEN,)}
    ends |= dict.fromkeys(("model.embed_tokens", "lm_head"), (VOCABULARY, HIDDEN))
    root = "model.layers.61"
    ends |= dict.fromkeys((f"{root}.enorm", f"{root}.hnorm", f"{root}.shared_head.norm"), (HIDDEN,))
    ends |= dict.fromkeys((f"{root}.embed_tokens", f"{root}.shared_head.head"), ends["lm_head"])
    ends[f"{root}.eh_proj"] = (HIDDEN, 2 * HIDDEN)
    layers = [deepseek_layer(f"model.layers.{index}", dense=index < 3) for index in range(62)]
    return {**bf16(ends), **{name: tensor for layer in layers for name, tensor in layer.items()}}


def bf16(shapes: Shapes) -> Tensors:
    return {f"{name}.weight": ("BF16", shape) for name, shape in shapes.items()}


def fp8(shapes: Shapes) -> Tensors:
    """Matrices in fp8 and a scale for each block of 128 × 128."""
    scales = {name: tuple(-(-side // 128) for side in shape) for name, shape in shapes.items()}
    return {
        **{f"{name}.weight": ("F8_E4M3", shape) for name, shape in shapes.items()},
        **{f"{name}.weight_scale_inv": ("F32", shape) for name, shape in scales.items()},
    }


def deepseek_layer(root: str, *, dense: bool) -> Tensors:
    attention = {
        "q_a_proj": (1536, HIDDEN),
        "q_b_proj": (128 * (128 + 64), 1536),
        "kv_a_proj_with_mqa": (512 + 64, HIDDEN),
        "kv_b_proj": (128 * (128 + 128), 512),
        "o_proj": (HIDDEN, 128 * 128),
    }
    norms: Shapes = {
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
        "self_attn.q_a_layernorm": (1536,),
        "self_attn.kv_a_layernorm": (512,),
    }
    return {
        **fp8({f"{root}.self_attn.{name}": shape for name, shape in attention.items()}),
        **bf16({f"{root}.{name}": shape for name, shape in norms.items()}),
        **(fp8(mlp(f"{root}.mlp", 18432)) if dense else deepseek_experts(f"{root}.mlp")),
    }


def deepseek_experts(root: str) -> Tensors:
    names = [f"{root}.shared_experts", *(f"{root}.experts.{index}" for index in range(256))]
    return {
        **fp8({name: shape for expert in names for name, shape in mlp(expert, 2048).items()}),
        f"{root}.gate.weight": ("BF16", (256, HIDDEN)),
        f"{root}.gate.e_score_correction_bias": ("F32", (256,)),
    }


def mlp(root: str, width: int) -> Shapes:
    sides = {"gate_proj": (width, HIDDEN), "up_proj": (width, HIDDEN), "down_proj": (HIDDEN, width)}
    return {f"{root}.{name}": shape for name, shape in sides.items()}
