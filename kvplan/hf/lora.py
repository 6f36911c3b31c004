"""What a LoRA adapter adds to each matrix of a model, as an engine prepares slots for it.

vLLM 0.33.0 lora/layers: an adapter of rank r has for a matrix of (out, in) an A of r x in and a B
of out x r. Where tensor parallelism cuts the matrix by its rows, B is cut with it and A is whole
on every GPU; where it cuts columns, the other way round; routers are whole on every GPU. Experts
have A and B for each of them (fused_moe.py). Towers have none (enable_tower_connector_lora).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.stored import LoraWidths, Part

_PARTS: tuple[Part, ...] = ("attention", "dense_mlp", "routed_experts", "shared_experts", "router")
_ENDS = ("embedding", "lm_head", "norm")
_BY_COLUMNS = frozenset(
    [
        "o_proj",
        "out_proj",
        "c_proj",
        "dense",
        "wo",
        "down_proj",
        "w2",
        "fc2",
        "fc_out",
        "dense_4h_to_h",
        "output_linear",
    ]
)
_QUERIES_KEYS_VALUES = frozenset(
    ["qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack", "wqkv"]
)
_BY_ROWS = _QUERIES_KEYS_VALUES | frozenset(
    [
        "q_proj",
        "k_proj",
        "v_proj",
        "gate_proj",
        "up_proj",
        "gate_up_proj",
        "w1",
        "w2",
        "w3",
        "v1",
        "c_fc",
        "c_fc_0",
        "c_fc_1",
        "fc1",
        "fc_in",
        "dense_h_to_4h",
        "input_linear",
        "g_proj",
    ]
)
_ONE_A = frozenset(
    [
        "Phi3ForCausalLM",
        "InternLM2ForCausalLM",
        "ChatGLMModel",
        "ChatGLMForConditionalGeneration",
        "GPTBigCodeForCausalLM",
        "GPTNeoXForCausalLM",
    ]
)
"""Architectures whose fused matrix of q, k and v has one A in vLLM 0.33.0
(QKVParallelLinearWithLoRA); of others q, k and v have theirs apart, as in TensorRT-LLM."""

VOCABULARY = frozenset(
    [
        "ApertusForCausalLM",
        "ArceeForCausalLM",
        "CohereForCausalLM",
        "Cohere2ForCausalLM",
        "CwmForCausalLM",
        "DeciLMForCausalLM",
        "Ernie4_5ForCausalLM",
        "Exaone4ForCausalLM",
        "ExaoneForCausalLM",
        "ExaoneMoEForCausalLM",
        "ExaoneMoeForCausalLM",
        "FlexOlmoForCausalLM",
        "GPTBigCodeForCausalLM",
        "GPTNeoXForCausalLM",
        "GlmForCausalLM",
        "GraniteForCausalLM",
        "GraniteMoeForCausalLM",
        "GraniteMoeSharedForCausalLM",
        "HunYuanDenseV1ForCausalLM",
        "HunYuanMoEV1ForCausalLM",
        "HyperCLOVAXForCausalLM",
        "IQuestCoderForCausalLM",
        "InternLM3ForCausalLM",
        "LLaMAForCausalLM",
        "Llama4ForCausalLM",
        "LlamaForCausalLM",
        "MellumForCausalLM",
        "MiniCPMForCausalLM",
        "MixtralForCausalLM",
        "NemotronForCausalLM",
        "Olmo2ForCausalLM",
        "Olmo3ForCausalLM",
        "OlmoForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
        "PhiMoEForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "SeedOssForCausalLM",
        "SmolLM3ForCausalLM",
        "SolarForCausalLM",
        "Starcoder2ForCausalLM",
        "TeleChat2ForCausalLM",
        "VaultGemmaForCausalLM",
    ]
)
"""Architectures whose embedding and output head have slots too: vLLM 0.33.0's registry, classes
whose ``embedding_modules`` is not empty (model_executor/models)."""


def lora_widths(
    tensors: Sequence[Tensor], hidden: int, architecture: str
) -> tuple[LoraWidths, ...]:
    """The widths of each part; empty where a matrix is not known to be cut one way or the other."""
    copied: defaultdict[str, int] = defaultdict(int)
    divided: defaultdict[str, int] = defaultdict(int)
    for tensor in tensors:
        if tensor.part in (*_ENDS, *TOWERS) or len(tensor.shape) != 2:  # noqa: PLR2004 - a matrix
            continue
        into, out = _cut(tensor, hidden, architecture)
        if tensor.part not in _PARTS or into is None or out is None:
            return ()
        times = tensor.times * tensor.copies
        copied[tensor.part] += times * into
        divided[tensor.part] += times * out
    if not copied:
        return ()
    rows = [LoraWidths(part=p, copied=copied[p], divided=divided[p]) for p in _PARTS if p in copied]
    return (*rows, *_vocabulary(tensors, hidden, architecture))


def _cut(tensor: Tensor, hidden: int, architecture: str) -> tuple[int | None, int | None]:
    """Numbers a rank of A and B that are whole on every GPU, and those that are cut."""
    out, into = tensor.shape
    name = tensor.name.rpartition(".")[2]
    if tensor.part == "router":
        return out + into, 0
    if name in _BY_COLUMNS and out == hidden:
        return out, into
    if name not in _BY_ROWS:
        return None, None
    apart = name in _QUERIES_KEYS_VALUES and architecture not in _ONE_A
    return into * (3 if apart else 1), out


def _vocabulary(
    tensors: Sequence[Tensor], hidden: int, architecture: str
) -> tuple[LoraWidths, ...]:
    """Embedding and head, whole on every GPU: r x (rows + hidden) for either, tied or not.

    vLLM 0.33.0 lora/layers/vocab_parallel_embedding.py and logits_processor.py.
    """
    rows = [t.shape[0] for t in tensors if t.part == "embedding" and t.shape[-1] == hidden]
    if architecture not in VOCABULARY or not rows:
        return ()
    width = max(rows) + hidden
    return (
        LoraWidths(part="embedding", copied=width, divided=0),
        LoraWidths(part="lm_head", copied=width, divided=0),
    )
