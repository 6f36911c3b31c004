"""Weights by the headers beside config.json, and what is said of them; figures by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvplan
from kvplan import hf
from kvplan.errors import RefusedError, SpecError
from kvplan.parallel import Layout
from kvplan.stored import Parameters
from kvplan.weights import StageLayers, weights_on_rank
from tests.hf.safetensors_files import Tensors
from tests.hf.small_llama import CONFIG, PARAMETERS, UNKNOWN, layer, llama, read, rows


def test_headers_that_agree_with_config_json_change_nothing_else(tmp_path: Path) -> None:
    spec = read(tmp_path, llama())
    assert rows(spec) == {
        ("embedding", "bf16", None): 800,
        ("lm_head", "bf16", None): 800,
        ("attention", "bf16", None): 2 * 192,
        ("dense_mlp", "bf16", None): 2 * 384,
        ("norm", "bf16", None): 5 * 8,
    }
    assert spec.parameters == Parameters(total=PARAMETERS, active=PARAMETERS)
    assert (spec.weights_bytes, spec.assumptions) == (2 * PARAMETERS, ())
    assert spec.source.endswith("; weights from the header of one safetensors file")


def test_import_says_where_weights_come_from_and_is_read_back(tmp_path: Path) -> None:
    read(tmp_path, llama())
    spec, provenance = hf.read_config(tmp_path / "config.json")
    assert provenance["weights",] == "the header of one safetensors file"
    text = hf.to_yaml(spec, provenance)
    assert "weights:  # key: the header of one safetensors file\n" in text
    (tmp_path / "spec.yaml").write_text(text)
    assert kvplan.load(tmp_path / "spec.yaml") == spec


def test_a_config_of_another_name_has_nothing_beside_it(tmp_path: Path) -> None:
    read(tmp_path, {"x": ("BF16", (7,))})
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    assert hf.read_config(tmp_path / "other.json")[0].weights_bytes == 2 * PARAMETERS


def test_a_disagreement_is_said_with_both_figures(tmp_path: Path) -> None:
    spec = read(tmp_path, {**llama(), "model.layers.0.self_attn.q_proj.bias": ("BF16", (8,))})
    assert spec.weights_bytes == 2 * PARAMETERS + 16
    assert spec.parameters is not None
    assert spec.parameters.total == spec.parameters.active == PARAMETERS + 8
    assert [note for note in spec.assumptions if "5,600 B" in note and "5,584 B" in note]
    assert [note for note in spec.assumptions if "2,800 param" in note and "2,792" in note]


def test_files_in_another_dtype_than_config_json_says(tmp_path: Path) -> None:
    spec = read(tmp_path, llama(dtype="F32"))
    assert spec.weights_bytes == 2 * PARAMETERS + 2 * 2 * (192 + 384)
    assert [note for note in spec.assumptions if "5,584 B" in note]
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS


def test_an_unknown_architecture_is_weighed_where_its_cache_is_assumed(tmp_path: Path) -> None:
    tensors = {**llama(), "model.layers.1.zork": ("F64", (3,))}
    with pytest.raises(RefusedError):
        read(tmp_path, tensors, UNKNOWN)
    spec = read(tmp_path, tensors, UNKNOWN, "full_attention")
    assert spec.weights_bytes == 2 * PARAMETERS + 24
    assert rows(spec)["other", "fp64", None] == 3
    assert spec.parameters == Parameters(total=PARAMETERS + 3, active=None)
    assert spec.not_counted == ()
    assert [note for note in spec.assumptions if "24 B" in note and "model.layers.1.zork" in note]


def test_draft_layers_and_tables_are_left_out(tmp_path: Path) -> None:
    more = {
        **layer(2),
        "model.layers.2.eh_proj.weight": ("BF16", (8, 16)),
        "mtp.fc.weight": ("BF16", (8, 16)),
        "model.mtp.norm.weight": ("BF16", (8,)),
        "model.rotary_emb.inv_freq": ("F32", (2,)),
        "transformer.h.0.attn.bias": ("F32", (1, 1, 4, 4)),
        "transformer.h.0.attn.masked_bias": ("F32", ()),
    }
    spec = read(tmp_path, {**llama(), **more})
    assert spec.weights_bytes == 2 * PARAMETERS
    draft_bytes, tables_bytes = 2 * (592 + 2 * 128 + 8), 4 * (2 + 16 + 1)
    assert sorted(note.partition(" ")[0] for note in spec.assumptions) == sorted(
        f"{size:,}" for size in (draft_bytes, tables_bytes)
    )


def test_a_second_copy_of_a_tied_head_is_stored_and_not_loaded(tmp_path: Path) -> None:
    """As vLLM 0.33.0 skips lm_head.weight where tie_word_embeddings is on."""
    spec = read(tmp_path, llama(), {**CONFIG, "tie_word_embeddings": True})
    assert spec.weights_bytes == 2 * PARAMETERS
    assert rows(spec)["lm_head", "bf16", "buffers"] == 800
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS - 800
    lines = weights_on_rank(spec, Layout(1), StageLayers(2))
    assert sum(line.size_bytes for line in lines) == 2 * (PARAMETERS - 800)


def test_a_truncated_file_is_refused_and_missing_shards_are_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    read(tmp_path, llama())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SpecError, match="truncated"):
        hf.read_config(tmp_path)
    path.rename(tmp_path / "model-00001-of-00002.safetensors")
    spec, provenance = hf.read_config(tmp_path)
    assert spec.weights_bytes == 2 * PARAMETERS
    assert ("weights",) not in provenance
    assert "not read from safetensors headers" in spec.assumptions[0]


def test_what_has_no_known_name_is_copied_to_every_gpu(tmp_path: Path) -> None:
    tensors = {**llama(), "model.layers.1.zork": ("F64", (3,))}
    spec = read(tmp_path, tensors, UNKNOWN, "full_attention")
    lines = {line.part: line for line in weights_on_rank(spec, Layout(tensor=2), StageLayers(2))}
    assert (lines["other"].shared_by, lines["other"].size_bytes) == (1, 24)
    # halves of q and o, 8 × 8 each, and the one KV head's k and v, 4 × 8 each, on both GPUs
    assert (lines["attention"].shared_by, lines["attention"].size_bytes) == (2, 2 * 2 * 128)


QWEN3_MOE = {
    **CONFIG,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 5,
    "decoder_sparse_step": 1,
}
EXPERT = 3 * 5 * 8


def qwen3_moe(experts: int) -> Tensors:
    """The small Llama with norms of its heads, and experts in the place of its MLPs."""
    dense = {name: tensor for name, tensor in llama().items() if ".mlp." not in name}
    shapes: dict[str, tuple[int, ...]] = {"self_attn.q_norm": (4,), "self_attn.k_norm": (4,)}
    shapes["mlp.gate"] = (4, 8)
    for expert in range(experts):
        shapes |= {f"mlp.experts.{expert}.{name}_proj": (5, 8) for name in ("gate", "up")}
        shapes[f"mlp.experts.{expert}.down_proj"] = (8, 5)
    more = {
        f"model.layers.{index}.{name}.weight": ("BF16", shape)
        for index in range(2)
        for name, shape in shapes.items()
    }
    return {**dense, **more}


@pytest.mark.parametrize(("extra", "experts"), [(0, 4), (3, 4), (0, 3)])
def test_active_parameters_where_files_and_config_have_the_same_experts(
    tmp_path: Path, extra: int, experts: int
) -> None:
    """One of four is chosen; with other experts than config.json has, nobody knows how many."""
    more = {"model.zork.weight": ("BF16", (extra,))} if extra else {}
    spec = read(tmp_path, {**qwen3_moe(experts), **more}, QWEN3_MOE)
    dense = PARAMETERS - 2 * 384 + 2 * (4 + 4 + 4 * 8) + extra
    active = dense + 2 * EXPERT if experts == 4 else None
    assert spec.parameters == Parameters(total=dense + 2 * experts * EXPERT, active=active)


def test_a_tower_is_in_the_total_and_beside_the_language_model(tmp_path: Path) -> None:
    """The total is everything in the files; config.json has no word of this tower."""
    text = {
        **CONFIG,
        "architectures": None,
        "model_type": "llama4_text",
        "num_hidden_layers": 1,
        "intermediate_size_mlp": 16,
        "interleave_moe_layer_step": 2,
        "layer_types": ["full_attention"],
    }
    config = {"model_type": "llama4", "text_config": text, "torch_dtype": "bfloat16"}
    tensors = {
        f"language_model.{name.replace('.mlp.', '.feed_forward.')}": tensor
        for name, tensor in llama(1).items()
    }
    spec = read(tmp_path, {**tensors, "vision_model.class_embedding": ("BF16", (6,))}, config)
    assert rows(spec)["vision", "bf16", None] == 6
    language = PARAMETERS - 592
    assert spec.parameters == Parameters(total=language + 6, active=language, language=language)
