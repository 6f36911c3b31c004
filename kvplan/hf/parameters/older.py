"""Counts of the families before Llama, and of Whisper.

Sources: the classes of transformers 5.23.0, or the model's own code where it has none.
"""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.config import Config
from kvplan.hf.geometry import Dialect
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Attention, Tensors, UncountedError
from kvplan.hf.parameters.ordinary import Counter, Recipe

GPT2_ENDS = ("transformer.wte", "lm_head")


def gpt2(config: Config) -> Tensors:
    """GPT-2 and gpt_bigcode: learned positions, biases everywhere; ``n_inner`` or four times."""
    hidden = b.size(config, "n_embd", "hidden_size")
    heads = b.size(config, "n_head", "num_attention_heads")
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=1 if config.raw.get("multi_query") is True else heads,
        width=b.whole(config, hidden, heads, "n_embd"),
        bias=True,
        out_bias=True,
        fused="c_attn",
        out="c_proj",
        root="attn",
    )
    width = config.maybe("n_inner") or 4 * hidden
    every = (
        *b.attention(shape),
        *b.plain_mlp(hidden, width, bias=True, names=("c_fc", "c_proj")),
        *b.norms(("ln_1", "ln_2"), hidden, bias=True),
    )
    layers = plain.layer_count(config, "n_layer", "num_hidden_layers")
    positions = b.size(config, "n_positions", "max_position_embeddings")
    return (
        *b.placed(every, range(layers), "transformer.h"),
        *e.embedding(positions, hidden, "transformer.wpe"),
        *e.ends(
            config,
            hidden,
            tie=e.tied(config, default=True),
            final="transformer.ln_f",
            bias=True,
            names=GPT2_ENDS,
        ),
    )


def gptj(config: Config) -> Tensors:
    """GPT-J: one norm, no attention biases, a head with a bias."""
    hidden, layers = b.size(config, "n_embd"), plain.layer_count(config, "n_layer")
    heads = b.size(config, "n_head")
    width = b.whole(config, hidden, heads, "n_embd")
    shape = Attention(
        hidden=hidden, heads=heads, kv=heads, width=width, out="out_proj", root="attn"
    )
    every = (
        *b.attention(shape),
        *b.plain_mlp(
            hidden, config.maybe("n_inner") or 4 * hidden, bias=True, names=("fc_in", "fc_out")
        ),
        *b.norm("ln_1", hidden, bias=True),
    )
    recipe = Recipe(head_bias=True, norm_bias=True, final="transformer.ln_f", ends=GPT2_ENDS)
    return b.placed(every, range(layers), "transformer.h") + plain.outside_layers(
        config, recipe, hidden
    )


def bloom(config: Config) -> Tensors:
    """BLOOM: a norm after the embedding, biases everywhere."""
    hidden = b.size(config, "hidden_size", "n_embed")
    heads = b.size(config, "n_head", "num_attention_heads")
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=heads,
        width=b.whole(config, hidden, heads, "hidden_size"),
        bias=True,
        out_bias=True,
        fused="query_key_value",
        out="dense",
        root="self_attention",
    )
    names = ("dense_h_to_4h", "dense_4h_to_h")
    every = (
        *b.attention(shape),
        *b.plain_mlp(hidden, 4 * hidden, bias=True, names=names),
        *b.norms(plain.PRE_NORM, hidden, bias=True),
    )
    layers = plain.layer_count(config, "n_layer", "num_hidden_layers")
    recipe = Recipe(
        tie=True, norm_bias=True, final="transformer.ln_f", ends=("transformer.word_embeddings", "")
    )
    return (
        *b.placed(every, range(layers), "transformer.h"),
        *b.norm("transformer.word_embeddings_layernorm", hidden, bias=True),
        *plain.outside_layers(config, recipe, hidden),
    )


def falcon(config: Config) -> Tensors:
    """Falcon: the new decoder has two norms before its parallel branches, the old one has one."""
    hidden = b.size(config, "hidden_size", "n_embed")
    heads = b.size(config, "num_attention_heads", "n_head")
    new, bias = config.flag("new_decoder_architecture"), config.flag("bias")
    kv = heads
    if new:
        kv = config.maybe("num_kv_heads", "n_head_kv") or heads
    elif config.flag("multi_query", default=True):
        kv = 1
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=kv,
        width=b.whole(config, hidden, heads, "hidden_size"),
        bias=bias,
        out_bias=bias,
        fused="query_key_value",
        out="dense",
        root="self_attention",
    )
    names = ("dense_h_to_4h", "dense_4h_to_h")
    width = config.maybe("ffn_hidden_size") or 4 * hidden
    every = (
        *b.attention(shape),
        *b.plain_mlp(hidden, width, bias=bias, names=names),
        *b.norms(_falcon_norms(config, new=new), hidden, bias=True),
    )
    layers = plain.layer_count(config, "num_hidden_layers", "n_layer")
    ends = ("transformer.word_embeddings", "lm_head")
    recipe = Recipe(tie=True, norm_bias=True, final="transformer.ln_f", ends=ends)
    made = b.placed(every, range(layers), "transformer.h")
    return made + plain.outside_layers(config, recipe, hidden) + _falcon_head(config, hidden)


def _falcon_norms(config: Config, *, new: bool) -> tuple[str, ...]:
    branches = config.maybe("num_ln_in_parallel_attn") or (2 if new else 1)
    if new and branches == len(plain.PRE_NORM):
        return ("ln_attn", "ln_mlp")
    if config.flag("parallel_attn", default=True):
        return (plain.INPUT,)
    return plain.PRE_NORM


def _falcon_head(config: Config, hidden: int) -> Tensors:
    """Published files store the head although it is the embedding (40b: 83,671,941,120 B)."""
    if not e.tied(config, default=True):
        return ()
    rows = b.size(config, "vocab_size")
    return b.buffer("lm_head", "lm_head.copy", rows, hidden, dtype=None)


def mpt(config: Config) -> Tensors:
    """MPT without biases; its norms have none either (``no_bias``)."""
    config.require("no_bias", True)
    if not config.flag("no_bias", default=True):
        raise UncountedError("no_bias is off")
    hidden, layers = b.size(config, "d_model"), plain.layer_count(config, "n_layers")
    heads, section = b.size(config, "n_heads"), config.section("attn_config")
    if section is not None:
        if section.flag("qk_ln") or section.word("attn_type") not in (None, "multihead_attention"):
            raise UncountedError("attn_config asks for norms or fewer KV heads")
        section.flag("alibi")
    if section is None or not section.flag("alibi"):
        raise UncountedError("attn_config.alibi is off: learned positions")
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=heads,
        width=b.whole(config, hidden, heads, "d_model"),
        fused="Wqkv",
        out="out_proj",
        root="attn",
    )
    ratio = config.maybe("expansion_ratio") or 4
    every = (
        *b.attention(shape),
        *b.plain_mlp(hidden, ratio * hidden, root="ffn"),
        *b.norms(("norm_1", "norm_2"), hidden),
    )
    recipe = Recipe(tie=True, final="transformer.norm_f", ends=GPT2_ENDS)
    return b.placed(every, range(layers), "transformer.blocks") + plain.outside_layers(
        config, recipe, hidden
    )


def opt(config: Config) -> Tensors:
    """OPT: positions shifted by two; embeddings may be narrower than the model (OPTConfig)."""
    hidden, layers = b.size(config, "hidden_size"), plain.layer_count(config, "num_hidden_layers")
    narrow = config.maybe("word_embed_proj_dim") or hidden
    if config.flag("_remove_final_layer_norm") or not config.flag(
        "layer_norm_elementwise_affine", default=True
    ):
        raise UncountedError("OPT without its norms")
    first = config.flag("do_layer_norm_before", default=True)
    bias, heads = config.flag("enable_bias", default=True), b.size(config, "num_attention_heads")
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=heads,
        width=b.whole(config, hidden, heads, "hidden_size"),
        bias=bias,
        out_bias=bias,
        out="out_proj",
    )
    every = (
        *b.attention(shape),
        *b.plain_mlp(hidden, b.size(config, "ffn_dim"), bias=bias, root="", names=("fc1", "fc2")),
        *b.norms(("self_attn_layer_norm", "final_layer_norm"), hidden, bias=True),
    )
    root = "model.decoder"
    rows, positions = b.size(config, "vocab_size"), b.size(config, "max_position_embeddings")
    made = b.placed(every, range(layers), f"{root}.layers")
    made += e.embedding(positions + 2, hidden, f"{root}.embed_positions")
    made += b.norm(f"{root}.final_layer_norm", hidden, bias=True) if first else ()
    if narrow != hidden:
        made += b.linear("other", f"{root}.project_in", hidden, narrow)
        made += b.linear("other", f"{root}.project_out", narrow, hidden)
    names = (f"{root}.embed_tokens", "lm_head")
    tie = e.tied(config, default=True)
    return made + e.ends(config, narrow, tie=tie, final="", names=names, vocab=rows)


def chatglm(config: Config) -> Tensors:
    """ChatGLM2, 3 and GLM-4-9B (their own modeling_chatglm.py); the head is never tied."""
    hidden = b.size(config, "hidden_size")
    names = Dialect(kv=(), head_dim=("kv_channels",), kv_absent="heads")
    found = geo.heads(config, names)
    heads = int(found["num_attention_heads"] or 0)
    kv = heads
    if config.flag("multi_query_attention"):
        kv = b.size(config, "multi_query_group_num")
    bias = config.flag("add_bias_linear")
    if not config.flag("rmsnorm", default=True) or config.has("pre_seq_len"):
        raise UncountedError("a ChatGLM with LayerNorm or a prefix encoder")
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=kv,
        width=int(found["head_dim"] or 0),
        bias=bias or config.flag("add_qkv_bias"),
        out_bias=bias,
        fused="query_key_value",
        out="dense",
        root="self_attention",
    )
    mlp_names = ("dense_h_to_4h", "dense_4h_to_h")
    width = b.size(config, "ffn_hidden_size")
    every = (
        *b.attention(shape),
        *b.gated_mlp(hidden, width, bias=bias, names=mlp_names),
        *b.norms(plain.PRE_NORM, hidden),
    )
    layers = plain.layer_count(config, "num_layers", "num_hidden_layers")
    post = config.flag("post_layer_norm", default=True)
    rotary = b.buffer("other", "transformer.rotary_pos_emb.inv_freq", shape.width // 4, dtype=None)
    config.ignore("tie_word_embeddings")
    if config.raw.get("tie_word_embeddings") is True:
        raise UncountedError("tie_word_embeddings is on, which ChatGLM's own code has no use for")
    root = "transformer.encoder"
    return (
        *b.placed(every, range(layers), f"{root}.layers"),
        *rotary,
        *e.ends(
            config,
            hidden,
            tie=False,
            final=f"{root}.final_layernorm" if post else "",
            names=("transformer.embedding.word_embeddings", "transformer.output_layer"),
            vocab=b.size(config, "padded_vocab_size", "vocab_size"),
        ),
    )


def whisper(config: Config) -> Tensors:
    """Encoder and decoder; keys have no bias, the encoder's positions are stored too."""
    hidden, bins = b.size(config, "d_model"), b.size(config, "num_mel_bins")
    frames = b.size(config, "max_source_positions")
    encoder = _whisper_layer(config, "encoder", hidden)
    decoder = _whisper_layer(config, "decoder", hidden)
    crossed = b.renamed(_whisper_attention(config, "decoder", hidden), "self_attn", "encoder_attn")
    decoder += (*crossed, *b.norm("encoder_attn_layer_norm", hidden, bias=True))
    part, kernel = "audio", 3
    front = (
        *b.vector(part, "model.encoder.conv1", hidden, bins, kernel),
        *b.vector(part, "model.encoder.conv1.bias", hidden),
        *b.vector(part, "model.encoder.conv2", hidden, hidden, kernel),
        *b.vector(part, "model.encoder.conv2.bias", hidden),
        *b.vector(part, "model.encoder.embed_positions", frames, hidden),
        *b.norm("model.encoder.layer_norm", hidden, bias=True, part=part),
    )
    recipe = Recipe(
        tie=True,
        norm_bias=True,
        final="model.decoder.layer_norm",
        ends=("model.decoder.embed_tokens", "proj_out"),
    )
    positions = b.size(config, "max_target_positions")
    ears, layers = (plain.layer_count(config, f"{kind}_layers") for kind in ("encoder", "decoder"))
    return (
        *front,
        *b.in_part(b.placed(encoder, range(ears), "model.encoder.layers"), part),
        *b.placed(decoder, range(layers), "model.decoder.layers"),
        *e.embedding(positions, hidden, "model.decoder.embed_positions"),
        *plain.outside_layers(config, recipe, hidden),
    )


def _whisper_attention(config: Config, side: str, hidden: int) -> Tensors:
    heads = b.size(config, f"{side}_attention_heads")
    width = b.whole(config, hidden, heads, "d_model")
    shape = Attention(
        hidden=hidden, heads=heads, kv=heads, width=width, bias=True, out_bias=True, out="out_proj"
    )
    return tuple(t for t in b.attention(shape) if not t.name.endswith("k_proj.bias"))


def _whisper_layer(config: Config, side: str, hidden: int) -> Tensors:
    width = b.size(config, f"{side}_ffn_dim")
    names = ("self_attn_layer_norm", "final_layer_norm")
    return (
        *_whisper_attention(config, side, hidden),
        *b.plain_mlp(hidden, width, bias=True, names=("fc1", "fc2")),
        *b.norms(names, hidden, bias=True),
    )


def qwen(config: Config) -> Tensors:
    """Qwen-1: ``intermediate_size`` counts gate and up together (its own modeling_qwen.py)."""
    half = b.whole(config, b.size(config, "intermediate_size"), 2, "intermediate_size")
    raw = {**config.raw, "intermediate_size": half}
    if not config.flag("no_bias", default=True):
        raise UncountedError("no_bias is off")
    return plain.counter(plain.QWEN)(replace(config, raw=raw))


def persimmon(config: Config) -> Tensors:
    """One matrix for queries, keys and values, LayerNorms of both (PersimmonConfig)."""
    normed = config.flag("qk_layernorm", default=True)
    recipe = Recipe(
        dialect=Dialect(kv=(), head_dim=(), kv_absent="heads"),
        bias=True,
        qk_norm="head" if normed else "",
        qk_norm_bias=True,
        qk_norm_names=("q_layernorm", "k_layernorm"),
        norm_bias=True,
        gated=False,
        mlp_bias=True,
        mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
        fused="query_key_value",
        out="dense",
        final="model.final_layernorm",
    )
    return plain.counter(recipe)(config)


COUNTERS: dict[str, Counter] = {
    "gpt2": gpt2,
    "gpt_bigcode": gpt2,
    "gptj": gptj,
    "bloom": bloom,
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), falcon),
    "mpt": mpt,
    "opt": opt,
    "chatglm": chatglm,
    "whisper": whisper,
    "qwen": qwen,
    "persimmon": persimmon,
}
