"""Headers of classifiers and drafts: heads and tables have a part of their own."""

from __future__ import annotations

from pathlib import Path

from kvplan.stored import Parameters
from tests.hf.small_llama import CONFIG, PARAMETERS, layer, llama, read, rows

LABELS = 3 * 8
"""Three labels of the hidden size."""


def test_a_classifier_has_a_score_for_each_label(tmp_path: Path) -> None:
    tensors = {**llama(), "score.weight": ("BF16", (3, 8))}
    del tensors["lm_head.weight"]
    config = {**CONFIG, "architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    spec = read(tmp_path, tensors, config)
    total = PARAMETERS - 800 + LABELS
    assert rows(spec)["lm_head", "bf16", None] == LABELS
    assert spec.parameters == Parameters(total=total, active=total)
    assert spec.weights_bytes == 2 * total
    assert not [note for note in spec.assumptions if "say nothing here" in note]


def test_an_eagle3_file_leaves_its_embedding_to_the_target(tmp_path: Path) -> None:
    """One layer that sees 16 columns, 40 of the target's 100 tokens; names as SpecForge's."""
    tensors = {
        name.replace("model.layers.0", "midlayer"): tensor for name, tensor in layer(0).items()
    }
    for name, rows_ in (("q_proj", 8), ("k_proj", 4), ("v_proj", 4)):
        tensors[f"midlayer.self_attn.{name}.weight"] = ("BF16", (rows_, 16))
    tensors |= {
        "midlayer.hidden_norm.weight": ("BF16", (8,)),
        "norm.weight": ("BF16", (8,)),
        "fc.weight": ("BF16", (8, 24)),
        "lm_head.weight": ("BF16", (40, 8)),
        "d2t": ("I64", (40,)),
        "t2d": ("BOOL", (100,)),
    }
    config = {**CONFIG, "architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1}
    spec = read(tmp_path, tensors, {**config, "draft_vocab_size": 40})
    stored = 16 * (8 + 4 + 4) + 64 + 3 * 128 + 3 * 8 + 8 + 8 * 24 + 40 * 8
    assert spec.weights_bytes == 2 * stored + 40 * 8 + 100
    assert spec.parameters is not None
    assert spec.parameters.total == stored
    assert not [note for note in spec.assumptions if "say nothing here" in note]
