"""Counts of dense families that build their layers in a way of their own.

Sources: the classes of transformers 5.23.0, or the model's own code where it has none.
"""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.config import MAX_SIZE, Config
from kvplan.hf.geometry import DENSE, MULTI_HEAD, OWN_HEAD_DIM
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Attention, Tensors, UncountedError
from kvplan.hf.parameters.ordinary import ATTENTION_BIAS, Counter, Recipe


def nemotron_nas(config: Config) -> Tensors:
    """``block_configs`` by layer: attention, one linear layer or nothing, and an MLP's width."""
    layers = plain.layer_count(config, "num_hidden_layers")
    hidden, heads = b.size(config, "hidden_size"), b.size(config, "num_attention_heads")
    width = int(geo.head_dim(config, DENSE, config.count("num_attention_heads")))
    bias, mlp_bias = config.flag("attention_bias"), config.flag("mlp_bias")
    blocks = config.per_layer(
        "block_configs", config.items("block_configs", dict, "objects"), layers
    )
    if blocks is None:
        b.uncounted(config, "block_configs")
    made: Tensors = ()
    for index, raw in enumerate(blocks):
        block = Config(raw, config.path, config.architecture, f"block_configs[{index}].")
        shape = _nas_attention(block, hidden, heads, width, bias=bias)
        every = shape + _nas_mlp(block, hidden, bias=mlp_bias)
        made += b.placed(every, (index,))
    return made + plain.outside_layers(config, Recipe(), hidden)


def _nas_attention(block: Config, hidden: int, heads: int, width: int, *, bias: bool) -> Tensors:
    section = block.section("attention")
    if section is None or section.flag("no_op"):
        return ()
    if section.flag("replace_with_linear"):
        linear = b.linear("attention", "self_attn.linear_attn", hidden, hidden, bias=bias)
        return (*linear, *b.norm(plain.INPUT, hidden))
    kv = b.whole(block, heads, b.size(section, "n_heads_in_group"), "num_attention_heads")
    shape = Attention(hidden=hidden, heads=heads, kv=kv, width=width, bias=bias, out_bias=bias)
    return (*b.attention(shape), *b.norm(plain.INPUT, hidden))


def _nas_mlp(block: Config, hidden: int, *, bias: bool) -> Tensors:
    """Two thirds of ``ffn_mult`` times hidden size, rounded up to 256 (modeling_decilm.py)."""
    section = block.section("ffn")
    if section is None:
        b.uncounted(block, "ffn")
    if section.flag("no_op"):
        return ()
    if section.flag("replace_with_linear"):
        linear = b.linear("dense_mlp", "mlp.linear_mlp", hidden, hidden, bias=bias)
        return (*linear, *b.norm(plain.POST, hidden))
    key, factor = section.value("ffn_mult")
    if not key:
        b.uncounted(section, "ffn_mult")
    if type(factor) not in (int, float) or not 0 < factor < MAX_SIZE:
        section.refuse("ffn_mult has to be a number above zero")
    width = -(-int(2 * factor * hidden / 3) // 256) * 256
    return (*b.gated_mlp(hidden, width, bias=bias), *b.norm(plain.POST, hidden))


def mllama(config: Config) -> Tensors:
    """Cross-attention in the place of self-attention; eight rows of the embedding are extra."""
    layers = plain.layer_count(config, "num_hidden_layers")
    shape = plain.attention_shape(config, Recipe())
    hidden = shape.hidden
    crossed = sorted(set(config.numbers("cross_attention_layers") or ()))
    rest = sorted(set(range(layers)) - set(crossed))
    seen = (
        *b.attention(replace(shape, root="cross_attn", norm="head")),
        *b.vector("attention", "cross_attn_attn_gate", 1),
        *b.vector("dense_mlp", "cross_attn_mlp_gate", 1),
    )
    every = (
        *b.gated_mlp(hidden, b.size(config, "intermediate_size")),
        *b.norms(plain.PRE_NORM, hidden),
    )
    rows = b.size(config, "vocab_size")
    tie = config.flag("tie_word_embeddings")
    if tie:
        raise UncountedError("tie_word_embeddings is on, but the embedding has eight rows more")
    root = "model"
    return (
        *b.placed(b.attention(shape), rest, f"{root}.layers"),
        *b.placed(seen, crossed, f"{root}.layers"),
        *b.placed(every, range(layers), f"{root}.layers"),
        *e.embedding(rows + 8, hidden),
        *b.norm("model.norm", hidden),
        *e.head(rows, hidden),
    )


def muse_glimmer(config: Config) -> Tensors:
    """Four norms a layer and an output gate as wide as the heads (MuseGlimmerTextConfig)."""
    recipe = replace(plain.MISTRAL, dialect=OWN_HEAD_DIM, norms=plain.SANDWICH)
    layers = plain.layer_count(config, "num_hidden_layers")
    shape = plain.attention_shape(config, recipe)
    gate = b.linear("attention", "self_attn.gate_proj", shape.heads * shape.width, shape.hidden)
    return plain.counter(replace(recipe, bias=ATTENTION_BIAS))(config) + b.placed(
        gate, range(layers)
    )


def apertus(config: Config) -> Tensors:
    """XIELU has two parameters, and two buffers, a layer (ApertusConfig)."""
    recipe = Recipe(
        dialect=MULTI_HEAD,
        bias=ATTENTION_BIAS,
        qk_norm="head",
        norms=("attention_layernorm", "feedforward_layernorm"),
        gated=False,
        unless=("mlp_bias",),
    )
    names = ("alpha_p", "alpha_n")
    curve = tuple(t for name in names for t in b.vector("dense_mlp", f"mlp.act_fn.{name}", 1))
    kept = tuple(
        t
        for name in ("beta", "eps")
        for t in b.buffer("dense_mlp", f"mlp.act_fn.{name}", 1, dtype=None)
    )
    layers = plain.layer_count(config, "num_hidden_layers")
    return plain.counter(recipe)(config) + b.placed((*curve, *kept), range(layers))


def diffllama(config: Config) -> Tensors:
    """Four vectors of a head's width weigh the two halves of attention (DiffLlamaConfig)."""
    recipe = replace(plain.LLAMA, mlp_bias=False, unless=("mlp_bias",))
    width = plain.attention_shape(config, recipe).width
    names = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
    vectors = tuple(t for name in names for t in b.vector("attention", f"self_attn.{name}", width))
    layers = plain.layer_count(config, "num_hidden_layers")
    return plain.counter(recipe)(config) + b.placed(vectors, range(layers))


def granite_swa(config: Config) -> Tensors:
    """Granite with a sink a head (GraniteSWAConfig)."""
    recipe = replace(plain.LLAMA, dialect=DENSE, tie=True)
    sinks = b.vector("attention", "self_attn.sinks", b.size(config, "num_attention_heads"))
    layers = plain.layer_count(config, "num_hidden_layers")
    return plain.counter(recipe)(config) + b.placed(sinks, range(layers))


def minicpm(config: Config) -> Tensors:
    """MiniCPM: Llama's layers, tied (its own modeling_minicpm.py)."""
    if config.has("num_experts"):
        raise UncountedError("num_experts is set: MiniCPM-MoE is not counted")
    return plain.counter(replace(plain.LLAMA, tie=True))(config)


COUNTERS: dict[str, Counter] = {
    "nemotron-nas": nemotron_nas,
    "mllama_text_model": mllama,
    "muse_glimmer_text": muse_glimmer,
    "apertus": apertus,
    "diffllama": diffllama,
    "granite_swa": granite_swa,
    "minicpm": minicpm,
}
