"""Counts of families whose layers are attention and an MLP, or experts in its place.

A recipe is data: what the class of transformers 5.23.0 (or the model's own code, where it has no
class) puts into a layer. Constants stand for what no key changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from kvplan.hf import geometry as geo
from kvplan.hf.config import MAX_LAYERS, Config
from kvplan.hf.geometry import DENSE, MULTI_HEAD, OWN_HEAD_DIM, Dialect
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters.blocks import Attention, Flag, Norm, Tensors

Counter = Callable[[Config], Tensors]
"""Every tensor of the text model. Raises UncountedError where the file does not tell."""

INPUT, POST = "input_layernorm", "post_attention_layernorm"
PRE_NORM = (INPUT, POST)
SANDWICH = (*PRE_NORM, "pre_feedforward_layernorm", "post_feedforward_layernorm")
POST_NORM = (POST, "post_feedforward_layernorm")
ATTENTION_BIAS: Flag = ("attention_bias", False)
MLP_BIAS: Flag = ("mlp_bias", False)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One family: where its figures stand, and which biases and norms a layer has."""

    dialect: Dialect = DENSE
    layer_keys: tuple[str, ...] = ("num_hidden_layers",)
    hidden_keys: tuple[str, ...] = ("hidden_size",)
    width_keys: tuple[str, ...] = ("intermediate_size",)
    vocab_keys: tuple[str, ...] = ("vocab_size",)
    bias: Flag = False
    out_bias: Flag | Literal["same"] = "same"
    qk_norm: Norm = ""
    qk_norm_key: Flag = True
    qk_norm_bias: bool = False
    qk_norm_names: tuple[str, str] = ("q_norm", "k_norm")
    norms: tuple[str, ...] = PRE_NORM
    norm_bias: bool = False
    final: str = "model.norm"
    gated: bool = True
    mlp_bias: Flag = False
    mlp_names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    mlp_root: str = "mlp"
    fused: str = ""
    out: str = "o_proj"
    attn_root: str = "self_attn"
    root: str = "model.layers"
    ends: tuple[str, str] = ("model.embed_tokens", "lm_head")
    head_bias: Flag = False
    tie: bool | None = False
    """What the class does where no key says it; None where the file has to."""
    unless: tuple[str, ...] = ()
    """Flags that add or take away tensors, and that no published file sets."""
    tie_keys: tuple[str, ...] = ()
    vocab_default: int | None = None
    """Of the class, for nested files, which transformers writes as the difference from it."""
    experts: Callable[[Config, int], b.Experts] | None = None
    sparse: Callable[[Config, int], tuple[int, ...]] | None = None
    """Layers that have experts; all of them where there is no rule."""


def layer_count(config: Config, *keys: str) -> int:
    """Layers of the main model."""
    return int(config.count(*keys, most=MAX_LAYERS))


def attention_shape(config: Config, recipe: Recipe) -> Attention:
    """The recipe's attention with the file's figures."""
    found = geo.heads(config, recipe.dialect)
    bias = b.switch(config, recipe.bias)
    out_bias = bias if recipe.out_bias == "same" else b.switch(config, recipe.out_bias)
    return Attention(
        hidden=b.size(config, *recipe.hidden_keys),
        heads=int(found["num_attention_heads"] or 0),
        kv=int(found["num_key_value_heads"] or 0),
        width=int(found["head_dim"] or 0),
        bias=bias,
        out_bias=out_bias,
        norm=recipe.qk_norm if b.switch(config, recipe.qk_norm_key) else "",
        norm_bias=recipe.qk_norm_bias,
        norm_names=recipe.qk_norm_names,
        fused=recipe.fused,
        out=recipe.out,
        root=recipe.attn_root,
    )


def mlp(config: Config, recipe: Recipe, hidden: int, width: int) -> Tensors:
    """The dense MLP of one layer."""
    bias = b.switch(config, recipe.mlp_bias)
    if recipe.gated:
        return b.gated_mlp(hidden, width, bias=bias, root=recipe.mlp_root, names=recipe.mlp_names)
    up, down = recipe.mlp_names[-2:]
    return b.plain_mlp(hidden, width, bias=bias, root=recipe.mlp_root, names=(up, down))


def counter(recipe: Recipe) -> Counter:
    """The count of a family that is nothing but its recipe."""

    def read(config: Config) -> Tensors:
        b.refuse_flags(config, *recipe.unless)
        layers = layer_count(config, *recipe.layer_keys)
        shape = attention_shape(config, recipe)
        hidden = shape.hidden
        every = (*b.attention(shape), *b.norms(recipe.norms, hidden, bias=recipe.norm_bias))
        return (
            *b.placed(every, range(layers), recipe.root),
            *_feed_forward(config, recipe, hidden, layers),
            *outside_layers(config, recipe, hidden),
        )

    return read


def _feed_forward(config: Config, recipe: Recipe, hidden: int, layers: int) -> Tensors:
    if recipe.experts is None:
        dense = mlp(config, recipe, hidden, b.size(config, *recipe.width_keys))
        return b.placed(dense, range(layers), recipe.root)
    sparse = recipe.sparse(config, layers) if recipe.sparse else tuple(range(layers))
    rest = sorted(set(range(layers)) - set(sparse))
    made: Tensors = ()
    if rest:
        dense = mlp(config, recipe, hidden, b.size(config, *recipe.width_keys))
        made = b.placed(dense, rest, recipe.root)
    if sparse:
        made += b.placed(b.experts(recipe.experts(config, hidden)), sparse, recipe.root)
    return made


def outside_layers(config: Config, recipe: Recipe, hidden: int) -> Tensors:
    """Embedding, last norm and head."""
    tie = e.tied(config, recipe.tie, *recipe.tie_keys)
    rows = config.maybe(*recipe.vocab_keys)
    if rows is None and recipe.vocab_default is not None and config.outer is not None:
        vocab = recipe.vocab_default
    elif rows is None:
        b.uncounted(config, *recipe.vocab_keys)
    else:
        vocab = int(rows)
    made = e.ends(
        config,
        hidden,
        tie=tie,
        final=recipe.final,
        bias=recipe.norm_bias,
        names=recipe.ends,
        vocab=vocab,
    )
    if b.switch(config, recipe.head_bias):
        made += b.vector("lm_head", f"{recipe.ends[1]}.bias", vocab)
    return made


LLAMA = Recipe(dialect=MULTI_HEAD, bias=ATTENTION_BIAS, mlp_bias=MLP_BIAS)
MISTRAL = Recipe(vocab_default=None)
QWEN2 = Recipe(bias=True, out_bias=False)
QWEN3 = Recipe(
    dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, qk_norm="head", qk_norm_key=("use_qk_norm", True)
)
GEMMA = Recipe(dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, tie=True)
GEMMA3 = replace(GEMMA, norms=SANDWICH, qk_norm="head", vocab_default=262_208)
OLMO2 = replace(LLAMA, mlp_bias=False, norms=POST_NORM, qk_norm="all")
COHERE = replace(
    LLAMA,
    mlp_bias=False,
    norms=(INPUT,),
    qk_norm="each",
    qk_norm_key=("use_qk_norm", False),
    tie=True,
    tie_keys=("use_embedding_sharing",),
)
PHI3 = Recipe(dialect=MULTI_HEAD, fused="qkv_proj", mlp_names=("gate_up_proj", "down_proj"))
GLM = Recipe(
    dialect=OWN_HEAD_DIM,
    bias=("attention_bias", True),
    out_bias=False,
    mlp_names=("gate_up_proj", "down_proj"),
)
STARCODER2 = Recipe(
    bias=("use_bias", True),
    norm_bias=True,
    gated=False,
    mlp_bias=("use_bias", True),
    mlp_names=("c_fc", "c_proj"),
    tie=True,
)
GPT_NEOX = Recipe(
    dialect=MULTI_HEAD,
    bias=("attention_bias", True),
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
    fused="query_key_value",
    out="dense",
    attn_root="attention",
    root="gpt_neox.layers",
    final="gpt_neox.final_layer_norm",
    ends=("gpt_neox.embed_in", "embed_out"),
)
QWEN = Recipe(
    dialect=Dialect(kv=(), head_dim=("kv_channels",), kv_absent="heads"),
    bias=True,
    out_bias=False,
    fused="c_attn",
    out="c_proj",
    attn_root="attn",
    norms=("ln_1", "ln_2"),
    final="transformer.ln_f",
    root="transformer.h",
    mlp_names=("w1", "w2", "c_proj"),
    ends=("transformer.wte", "lm_head"),
)
INTERNLM2 = Recipe(
    bias=("bias", False),
    fused="wqkv",
    out="wo",
    attn_root="attention",
    norms=("attention_norm", "ffn_norm"),
    mlp_root="feed_forward",
    mlp_names=("w1", "w3", "w2"),
    ends=("model.tok_embeddings", "output"),
)
PHI3_SMALL = Recipe(
    bias=True,
    norm_bias=True,
    mlp_bias=True,
    width_keys=("ff_intermediate_size",),
    mlp_names=("up_proj", "down_proj"),
    fused="query_key_value",
    out="dense",
    final="model.final_layernorm",
    tie=True,
)

EXAONE = Recipe(
    layer_keys=("num_layers", "num_hidden_layers"),
    out="out_proj",
    attn_root="attn.attention",
    norms=("ln_1", "ln_2"),
    root="transformer.h",
    final="transformer.ln_f",
    mlp_names=("c_fc_0", "c_fc_1", "c_proj"),
    ends=("transformer.wte", "lm_head"),
    tie=None,
)
STABLELM = Recipe(
    bias=("use_qkv_bias", False),
    out_bias=False,
    norm_bias=True,
    unless=("use_parallel_residual", "qk_layernorm"),
)
PHI = Recipe(
    dialect=MULTI_HEAD,
    bias=True,
    out="dense",
    norms=(INPUT,),
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("fc1", "fc2"),
    final="model.final_layernorm",
    head_bias=True,
    unless=("qk_layernorm",),
)

RECIPES: dict[str, Recipe] = {
    "llama": LLAMA,
    "Yi": LLAMA,
    **dict.fromkeys(("mistral", "ministral"), MISTRAL),
    "ministral3": replace(MISTRAL, dialect=OWN_HEAD_DIM),
    **dict.fromkeys(("qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_vl", "qwen2_5_vl"), QWEN2),
    "mimo": Recipe(bias=("attention_bias", True), out_bias=False),
    "qwen3": QWEN3,
    "qwen3_vl_text": QWEN3,
    "smollm3": replace(LLAMA, tie=True),
    "gemma": GEMMA,
    "gemma2": replace(GEMMA, norms=SANDWICH),
    "vaultgemma": replace(GEMMA, norms=(INPUT, "pre_feedforward_layernorm")),
    "gemma3_text": GEMMA3,
    "olmo": replace(LLAMA, mlp_bias=False, norms=(), final=""),
    "olmo2": OLMO2,
    "olmo3": OLMO2,
    "cohere": COHERE,
    "cohere2": replace(COHERE, qk_norm=""),
    "phi3": PHI3,
    "phi3small": PHI3_SMALL,
    "glm": GLM,
    "glm4": replace(GLM, norms=(*PRE_NORM, "post_self_attn_layernorm", "post_mlp_layernorm")),
    "starcoder2": STARCODER2,
    "gpt_neox": GPT_NEOX,
    "internlm2": INTERNLM2,
    "granite": LLAMA,
    "iquestcoder": replace(LLAMA, dialect=DENSE),
    "internlm3": Recipe(
        bias=("qkv_bias", False), out_bias=("bias", False), mlp_bias=("bias", False)
    ),
    "cwm": Recipe(dialect=OWN_HEAD_DIM, mlp_bias=MLP_BIAS),
    "helium": replace(LLAMA, dialect=OWN_HEAD_DIM, out_bias=False),
    "seed_oss": Recipe(
        dialect=OWN_HEAD_DIM,
        bias=("attention_bias", True),
        out_bias=("attention_out_bias", False),
        mlp_bias=MLP_BIAS,
    ),
    "ernie4_5": Recipe(
        dialect=OWN_HEAD_DIM, bias=("use_bias", False), mlp_bias=("use_bias", False), tie=True
    ),
    "arcee": replace(LLAMA, gated=False),
    "nemotron": replace(LLAMA, gated=False, norm_bias=True),
    "jais2": replace(
        LLAMA,
        bias=("attention_bias", True),
        mlp_bias=("mlp_bias", True),
        gated=False,
        norm_bias=True,
    ),
    "nanochat": replace(
        LLAMA, mlp_bias=False, gated=False, norms=(), final="", mlp_names=("fc1", "fc2")
    ),
    "exaone4": Recipe(norms=POST_NORM, qk_norm="head"),
    "exaone": EXAONE,
    "stablelm": STABLELM,
    "phi": PHI,
    "baichuan": Recipe(dialect=MULTI_HEAD, fused="W_pack"),
    "internlm": Recipe(dialect=MULTI_HEAD, bias=("bias", True)),
    "qwen2_5_omni_text": QWEN2,
}
COUNTERS: dict[str, Counter] = {name: counter(recipe) for name, recipe in RECIPES.items()}
