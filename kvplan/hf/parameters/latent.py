"""Counts of families with latent attention (MLA), sparse or not."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.config import Config
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import deepseek_v4 as v4
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import mixture as moe
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Experts, Tensors, UncountedError
from kvplan.hf.parameters.ordinary import LLAMA, Counter


def latent(config: Config, hidden: int, *, root: str = "self_attn") -> Tensors:
    """MLA: low-rank queries where ``q_lora_rank`` is set, one latent for keys and values."""
    heads = b.size(config, "num_attention_heads")
    nope, rope = b.size(config, "qk_nope_head_dim"), b.size(config, "qk_rope_head_dim")
    rank, v_width = b.size(config, "kv_lora_rank"), _v_width(config, hidden, heads)
    bias = config.flag("attention_bias")
    part = "attention"
    return (
        *_queries(config, hidden, heads * (nope + rope), root=root, bias=bias),
        *b.linear(part, f"{root}.kv_a_proj_with_mqa", rank + rope, hidden, bias=bias),
        *b.norm(f"{root}.kv_a_layernorm", rank),
        *b.linear(part, f"{root}.kv_b_proj", heads * (nope + v_width), rank),
        *b.linear(part, f"{root}.o_proj", hidden, heads * v_width, bias=bias),
    )


def _v_width(config: Config, hidden: int, heads: int) -> int:
    """``v_head_dim``; MiniCPM3 has none, where it is hidden size over heads."""
    given = config.maybe("v_head_dim")
    return int(given) if given is not None else b.whole(config, hidden, heads, "hidden_size")


def _queries(config: Config, hidden: int, rows: int, *, root: str, bias: bool) -> Tensors:
    rank = config.maybe("q_lora_rank")
    if rank is None:
        if "q_lora_rank" not in config.raw and config.raw.get("model_type") != "kimi_linear":
            b.uncounted(config, "q_lora_rank")
        return b.linear("attention", f"{root}.q_proj", rows, hidden)
    return (
        *b.linear("attention", f"{root}.q_a_proj", rank, hidden, bias=bias),
        *b.norm(f"{root}.q_a_layernorm", rank),
        *b.linear("attention", f"{root}.q_b_proj", rows, rank),
    )


def indexer(config: Config, hidden: int) -> Tensors:
    """DeepSeek sparse attention's indexer (DeepseekV32Indexer); weights_proj is never quantised."""
    heads, width = b.size(config, "index_n_heads"), b.size(config, "index_head_dim")
    root, part = "self_attn.indexer", "indexer"
    return (
        *b.linear(part, f"{root}.wq_b", heads * width, b.size(config, "q_lora_rank")),
        *b.linear(part, f"{root}.wk", width, hidden),
        *b.norm(f"{root}.k_norm", width, bias=True, part=part),
        *b.vector(part, f"{root}.weights_proj", heads, hidden),
    )


def mla_model(
    mixture: moe.Mixture | None, *, sparse: moe.Sparse = moe.dense_first, indexed: bool = False
) -> Counter:
    """DeepSeek's layers: MLA, the first ones with an MLP, the others with experts."""

    def read(config: Config) -> Tensors:
        b.refuse_flags(config, "mlp_bias")
        layers = plain.layer_count(config, "num_hidden_layers")
        hidden = b.size(config, "hidden_size")
        every = (*latent(config, hidden), *b.norms(plain.PRE_NORM, hidden))
        made = b.placed(every, range(layers))
        if indexed:
            made += b.placed(indexer(config, hidden), indexed_layers(config, layers))
        dense = sorted(set(range(layers)) - set(sparse(config, layers) if mixture else ()))
        if dense:
            width = b.size(config, "intermediate_size")
            made += b.placed(b.gated_mlp(hidden, width), dense)
        if mixture is not None:
            block = moe.experts_of(config, mixture, hidden, layers)
            made += b.placed(b.experts(block), sparse(config, layers))
        return made + e.ends(config, hidden, tie=e.tied(config, default=mixture is None))

    return read


def indexed_layers(config: Config, layers: int) -> tuple[int, ...]:
    """Layers whose indexer is their own; ``shared`` ones have none (GLM-5.2)."""
    types = config.per_layer("indexer_types", config.words("indexer_types"), layers)
    if types is not None:
        return tuple(index for index, kind in enumerate(types) if kind == "full")
    if any(config.has(key) for key in ("index_topk_freq", "index_topk_pattern")):
        raise UncountedError("indexers are shared, and no indexer_types says in which layers")
    return tuple(range(layers))


def noaux(config: Config) -> b.Kind | None:
    """The router's balancing bias, a buffer: there with ``topk_method`` noaux_tc."""
    method = config.word("topk_method")
    return "buffer" if method in (None, "noaux_tc") else None


def deepseek_v3(*, indexed: bool = False) -> Counter:
    """DeepSeek-V3; the router's bias is there with ``topk_method`` noaux_tc."""

    def read(config: Config) -> Tensors:
        mixture = replace(moe.DEEPSEEK, correction=noaux(config))
        return mla_model(mixture, indexed=indexed)(config)

    return read


def deepseek_v2(config: Config) -> Tensors:
    """MLA, but DeepSeek-VL2's smallest has ordinary heads."""
    if not config.flag("use_mla", default=True):
        return moe.with_experts(replace(LLAMA, mlp_bias=False), moe.DEEPSEEK, moe.dense_first)(
            config
        )
    if config.word("topk_method") == "noaux_tc":
        return deepseek_v3()(config)
    return mla_model(moe.DEEPSEEK)(config)


def longcat_flash(config: Config) -> Tensors:
    """Two MLA and two MLPs a layer; zero experts have a router's row and no weights."""
    layers, hidden = plain.layer_count(config, "num_layers"), b.size(config, "hidden_size")
    width = b.size(config, "ffn_hidden_size")
    real, none = b.size(config, "n_routed_experts"), b.size(config, "zero_expert_num", least=0)
    twice: Tensors = ()
    for copy in range(2):
        twice += (
            *latent(config, hidden, root=f"self_attn.{copy}"),
            *b.gated_mlp(hidden, width, root=f"mlps.{copy}"),
            *b.norms((f"input_layernorm.{copy}", f"post_attention_layernorm.{copy}"), hidden),
        )
    block = Experts(
        hidden=hidden,
        width=b.size(config, "expert_ffn_hidden_size"),
        count=real,
        used=min(real, b.size(config, "moe_topk")),
    )
    router = "mlp.router.classifier"
    more = (
        *b.routed(block, hidden),
        *b.vector("router", router, real + none, hidden),
        *(b.vector("router", f"{router}.bias", real + none) if config.flag("router_bias") else ()),
        *b.buffer("router", "mlp.router.e_score_correction_bias", real + none),
    )
    return b.placed((*twice, *more), range(layers)) + e.ends(
        config, hidden, tie=e.tied(config, default=False)
    )


def axk1(config: Config) -> Tensors:
    """A.X-K1: a norm after the experts (AXK1Config)."""
    layers, hidden = plain.layer_count(config, "num_hidden_layers"), b.size(config, "hidden_size")
    extra = b.norm("mlp.post_mlp_layernorm", hidden)
    return mla_model(moe.GLM_MOE)(config) + b.placed(extra, moe.dense_first(config, layers))


COUNTERS: dict[str, Counter] = {
    "axk1": axk1,
    "deepseek_v2": deepseek_v2,
    **dict.fromkeys(("deepseek_v3", "kimi_k2"), deepseek_v3()),
    "glm4_moe_lite": mla_model(moe.GLM_MOE),
    **dict.fromkeys(("mistral4", "mistral_large3"), mla_model(moe.DEEPSEEK)),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), deepseek_v3(indexed=True)),
    "minicpm3": mla_model(None),
    "longcat_flash": longcat_flash,
    "deepseek_v4": v4.deepseek_v4,
}
