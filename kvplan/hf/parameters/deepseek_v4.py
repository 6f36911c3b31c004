"""The count of DeepSeek-V4, in the names of its own checkpoint."""

from __future__ import annotations

from kvplan.hf.config import Config
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import mixture as moe
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Experts, Tensors


def deepseek_v4(config: Config) -> Tensors:
    """DeepseekV4ForCausalLM (transformers 5.23.0), in the checkpoint's own names.

    The first ``num_hash_layers`` layers route by a table of the vocabulary instead of a bias.
    """
    layers, hidden = plain.layer_count(config, "num_hidden_layers"), b.size(config, "hidden_size")
    vocab = b.size(config, "vocab_size")
    every = (*_v4_attention(config, hidden), *_v4_streams(config, hidden))
    made = b.placed(every, range(layers), "layers")
    made += b.placed(_v4_experts(config, hidden), range(layers), "layers")
    hashed = min(b.size(config, "num_hash_layers", least=0), layers)
    used, count = b.size(config, *moe.USED), b.size(config, "n_routed_experts")
    table = b.buffer("router", "ffn.gate.tid2eid", vocab, used, dtype="int64")
    made += b.placed(table, range(hashed), "layers")
    made += b.placed(b.buffer("router", "ffn.gate.bias", count), range(hashed, layers), "layers")
    made += _v4_compressors(config, hidden, layers)
    mult = b.size(config, "hc_mult")
    for name, shape in (("fn", (mult, mult * hidden)), ("base", (mult,)), ("scale", (1,))):
        made += b.vector("other", f"hc_head_{name}", *shape, dtype="fp32")
    tie = e.tied(config, default=False)
    return made + e.ends(config, hidden, tie=tie, final="norm", names=("embed", "head"))


def _v4_attention(config: Config, hidden: int) -> Tensors:
    heads, width = b.size(config, "num_attention_heads"), b.size(config, "head_dim")
    q_rank, o_rank = b.size(config, "q_lora_rank"), b.size(config, "o_lora_rank")
    groups, part = b.size(config, "o_groups"), "attention"
    return (
        *b.vector(part, "attn.attn_sink", heads, dtype="fp32"),
        *b.linear(part, "attn.wq_a", q_rank, hidden),
        *b.norm("attn.q_norm", q_rank),
        *b.linear(part, "attn.wq_b", heads * width, q_rank),
        *b.linear(part, "attn.wkv", width, hidden),
        *b.norm("attn.kv_norm", width),
        *b.linear(
            part, "attn.wo_a", groups * o_rank, b.whole(config, heads * width, groups, "o_groups")
        ),
        *b.linear(part, "attn.wo_b", hidden, groups * o_rank),
        *b.norms(("attn_norm", "ffn_norm"), hidden),
    )


def _v4_streams(config: Config, hidden: int) -> Tensors:
    """Hyper-connections: (2 + m) m mixing figures of m streams (arXiv 2606.19348)."""
    mult = b.size(config, "hc_mult", least=1)
    mixes = (2 + mult) * mult
    shapes = {"fn": (mixes, mult * hidden), "base": (mixes,), "scale": (3,)}
    return tuple(
        tensor
        for place in ("attn", "ffn")
        for name, shape in shapes.items()
        for tensor in b.vector("other", f"hc_{place}_{name}", *shape, dtype="fp32")
    )


def _v4_experts(config: Config, hidden: int) -> Tensors:
    width = b.size(config, "moe_intermediate_size")
    block = Experts(
        hidden=hidden,
        width=width,
        count=b.size(config, "n_routed_experts"),
        used=b.size(config, *moe.USED),
        shared_width=width * b.size(config, "n_shared_experts", least=0),
        root="ffn",
        shared="ffn.shared_experts",
        expert_names=("w1", "w3", "w2"),
    )
    return b.experts(block)


def _v4_compressors(config: Config, hidden: int, layers: int) -> Tensors:
    ratios = config.numbers("compress_ratios")
    if ratios is None:
        b.uncounted(config, "compress_ratios")
    made: Tensors = ()
    for ratio in sorted(set(ratios[:layers]) - {0, 1}):
        where = [index for index, value in enumerate(ratios[:layers]) if value == ratio]
        made += b.placed(_v4_compressor(config, hidden, ratio), where, "layers")
    return made


def _v4_compressor(config: Config, hidden: int, ratio: int) -> Tensors:
    """Ratio 4 overlaps its groups, which doubles its width, and has an indexer of the same kind."""
    width, overlaps = b.size(config, "head_dim"), ratio == 4  # noqa: PLR2004 - CSA's ratio
    made = _compress("attention", "attn.compressor", hidden, width, ratio, double=overlaps)
    if not overlaps:
        return made
    heads, narrow = b.size(config, "index_n_heads"), b.size(config, "index_head_dim")
    part, root = "indexer", "attn.indexer"
    return (
        *made,
        *_compress(part, f"{root}.compressor", hidden, narrow, ratio, double=True),
        *b.linear(part, f"{root}.wq_b", heads * narrow, b.size(config, "q_lora_rank")),
        *b.vector(part, f"{root}.weights_proj", heads, hidden),
    )


def _compress(
    part: str, root: str, hidden: int, width: int, ratio: int, *, double: bool
) -> Tensors:
    rows = 2 * width if double else width
    kept = "norm" if part == "attention" else part
    return (
        *b.vector(part, f"{root}.ape", ratio, rows, dtype="fp32"),
        *b.vector(part, f"{root}.wkv", rows, hidden),
        *b.vector(part, f"{root}.wgate", rows, hidden),
        *b.norm(f"{root}.norm", width, part=kept),
    )
