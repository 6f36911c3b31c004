"""DeepSeek-V4: compressed attention, hyper-connections, routing by a table in the first layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import Layer, Model, Norms, Tensor, buffer, extra
from kvplan.hf.blocks.compressed import CSA, CompressedAttention, HyperConnections, HyperHead
from kvplan.hf.config import MAX_TOKENS, Config, Figure, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, ends, model
from kvplan.hf.families.experts import DEEPSEEK, USED, experts
from kvplan.hf.layers import MTP, drafts, layer_count, layer_types
from kvplan.hf.quantization import Published
from kvplan.hf.quantized_matrix import MXFP4, Layout, fp8_blocks
from kvplan.hf.quantized_rows import Scheme

_STYLE = Style(root="layers", final="norm", ends=("embed", "head"))
_EXPERTS = replace(
    DEEPSEEK,
    no_shared="zero",
    root="ffn",
    names=("w1", "w3", "w2"),
    shared_root="ffn.shared_experts",
)
_RATIOS = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}


def _deepseek_v4(config: Config) -> Model:
    """``compress_ratios`` by layer, draft layers last: 0 a window only, 4 CSA, 128 HCA.

    Every layer keeps a window of raw vectors too. transformers saves the same as ``layer_types``
    and ``compress_rates`` (DeepseekV4Config). The KV layout is fp8_ds_mla unless the user asks
    for another (vLLM 0.33.0 models/deepseek_v4).
    """
    layers, draft = layer_count(config), drafts(config, MTP)
    config.require("num_key_value_heads", 1)
    config.ignore("index_n_heads", "index_head_dim", "index_topk", "q_lora_rank")
    config.ignore("compress_rope_theta")
    config.require("qk_nope_head_dim", config.count("head_dim") - config.count("qk_rope_head_dim"))
    ratios = _ratios(config, layers, draft)
    blocks: dict[int, Layer] = {ratio: (_attention(config, ratio),) for ratio in set(ratios)}
    stack = [blocks[ratio] for ratio in ratios]
    plain = model(
        config, _STYLE, stack[:layers], partial(_others, config, layers), draft=stack[layers:]
    )
    return replace(plain, ends=partial(_ends, config), kv_cache_dtype="fp8_ds_mla")


def _ratios(config: Config, layers: int, draft: int) -> list[int]:
    """The ratio of each layer and draft layer, 0 where it keeps its window alone."""
    ratios = config.numbers("compress_ratios")
    if ratios is None:
        ratios = _saved_ratios(config, layers)
    spare = ratios[layers:]
    # Without draft layers in the file, theirs may be left in the list: windows alone.
    left_over = not draft and not any(spare)
    if len(ratios) < layers or (spare and len(spare) != draft and not left_over):
        config.refuse(
            f"compress_ratios has {len(ratios)} entries for {layers} layers and {draft} draft"
        )
    unknown = sorted(set(ratios) - {0, 1, *_RATIOS.values()})
    if unknown:
        config.refuse(f"a layer compresses by {unknown[0]}; known are 0, 4 and 128")
    missing = [0] * (layers + draft - len(ratios))
    return [0 if ratio == 1 else ratio for ratio in (*ratios, *missing)]


def _saved_ratios(config: Config, layers: int) -> list[int]:
    rates = config.section("compress_rates")
    if rates is None:
        config.missing("compress_ratios", "compress_rates")
    names = {"sliding_attention": 0, **{kind: int(rates.count(kind)) for kind in _RATIOS}}
    return [names.get(kind, -1) for kind in layer_types(config, layers, None)]


def _attention(config: Config, ratio: int) -> CompressedAttention:
    heads, width = config.count("num_attention_heads"), config.count("head_dim")
    return CompressedAttention(
        heads=heads,
        width=width,
        rope=config.count("qk_rope_head_dim"),
        window=config.count("sliding_window", most=MAX_TOKENS),
        ratio=Figure(ratio, config.name("compress_ratios")) if ratio else None,
        index_width=config.count("index_head_dim") if ratio == CSA else None,
        q_rank=partial(config.size, "q_lora_rank"),
        o_rank=partial(config.size, "o_lora_rank"),
        groups=partial(_groups, config, heads * width),
        index_heads=partial(config.size, "index_n_heads"),
    )


def _groups(config: Config, inner: int) -> int:
    groups = config.size("o_groups")
    if inner % groups:
        config.refuse(f"o_groups: {inner} is not a multiple of {groups}")
    return groups


def _others(config: Config, layers: int) -> Sequence[Layer]:
    """The first ``num_hash_layers`` route by a table of the vocabulary instead of a bias."""
    block = experts(config, _EXPERTS, layers)
    rows = config.size("vocab_size")
    table = buffer("router", "ffn.gate.tid2eid", rows, config.size(*USED), dtype="int64")
    bias = buffer("router", "ffn.gate.bias", block.count)
    routing = (extra(table), extra(bias))
    streams = HyperConnections(streams=config.size("hc_mult"))
    hashed = config.size("num_hash_layers", least=0)
    norms = Norms(names=("attn_norm", "ffn_norm"))
    return [(block, routing[index >= hashed], streams, norms) for index in range(layers)]


def _ends(config: Config) -> Layer:
    return (*ends(config, _STYLE), HyperHead(streams=config.size("hc_mult")))


def _fp8(section: Config, plain: Scheme, layout: Layout) -> Scheme:
    """``expert_dtype`` fp4 stands outside quantization_config: MXFP4 experts."""
    word = (section.outer or section).word("expert_dtype")
    if word not in (None, "fp4", "fp8"):
        return replace(plain, refusal=f"expert_dtype {shown(str(word))} is not known")

    def of(tensor: Tensor) -> Layout | None:
        if tensor.part == "lm_head":
            return None
        return MXFP4 if tensor.part == "routed_experts" and word == "fp4" else layout

    return replace(plain, layout=of)


DEEPSEEK_V4 = Family(
    read=_deepseek_v4,
    architectures=("DeepseekV4ForCausalLM",),
    published=Published(
        fp8_scale="e8m0",
        fp8=_fp8,
        # What NVFP4 exports leave as the base checkpoint has it.
        modelopt_base=fp8_blocks(128, 128, ("e8m0",)),
    ),
)
