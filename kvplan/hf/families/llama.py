"""Llama and the models that are its layers with other constants, InternLM and EXAONE among them."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, buffer, extra, vector
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    LLAMA,
    MLP_BIAS,
    POST_NORM,
    Style,
    attention,
    decoder,
)
from kvplan.hf.families.experts import NUM_SHARED, Mixture, dense_first
from kvplan.hf.families.windows import mixed, unsettled
from kvplan.hf.geometry import DENSE, DIVIDED, MULTI_HEAD, OWN_HEAD_DIM

_NO_MLP_BIAS = replace(LLAMA, mlp_bias=False, uncounted_if=("mlp_bias",))
_APERTUS = Style(
    dialect=MULTI_HEAD,
    bias=ATTENTION_BIAS,
    qk_norm="head",
    norms=("attention_layernorm", "feedforward_layernorm"),
    gated=False,
    uncounted_if=("mlp_bias",),
)
_SEED_OSS = Style(
    bias=("attention_bias", True),
    out_bias=("attention_out_bias", False),
    mlp_bias=MLP_BIAS,
)
_PERSIMMON = Style(
    dialect=replace(MULTI_HEAD, kv=(), head_dim=()),
    bias=True,
    qk_norm="head",
    qk_norm_key=("qk_layernorm", True),
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
_STABLELM = Style(
    dialect=DIVIDED,
    bias=("use_qkv_bias", False),
    out_bias=False,
    norm_bias=True,
    uncounted_if=("use_parallel_residual", "qk_layernorm"),
)
_INTERNLM2 = Style(
    bias=("bias", False),
    fused="wqkv",
    out="wo",
    attn_root="attention",
    norms=("attention_norm", "ffn_norm"),
    mlp_root="feed_forward",
    mlp_names=("w1", "w3", "w2"),
    ends=("model.tok_embeddings", "output"),
)
_INTERNLM3 = Style(bias=("qkv_bias", False), out_bias=("bias", False), mlp_bias=("bias", False))
_EXAONE = Style(
    layers=("num_layers", "num_hidden_layers"),
    out="out_proj",
    attn_root="attn.attention",
    norms=("ln_1", "ln_2"),
    root="transformer.h",
    final="transformer.ln_f",
    mlp_names=("c_fc_0", "c_fc_1", "c_proj"),
    ends=("transformer.wte", "lm_head"),
    tie=None,
)
_PATTERN = ("sliding_window_pattern",)
_ARIA = Mixture(
    count=("moe_num_experts",),
    used=("moe_topk",),
    width=("intermediate_size",),
    shared=("moe_num_shared_experts",),
)


def _xielu(_: Config, __: Attention) -> Layer:
    """XIELU has two parameters, and two buffers, a layer (ApertusConfig)."""
    part, root = "dense_mlp", "mlp.act_fn"
    curve = (vector(part, f"{root}.{name}", 1) for name in ("alpha_p", "alpha_n"))
    constants = (buffer(part, f"{root}.{name}", 1, dtype=None) for name in ("beta", "eps"))
    return (extra(*curve, *constants),)


def _lambdas(_: Config, heads: Attention) -> Layer:
    """Four vectors of a head's width weigh the two halves of attention (DiffLlamaConfig)."""
    names = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
    return (extra(*(vector("attention", f"self_attn.{name}", heads.width) for name in names)),)


def _helium_heads(config: Config, style: Style) -> Attention:
    """All heads together are as wide as the model: o_proj is square (HeliumAttention)."""
    own, hidden = attention(config, style), config.count("hidden_size")
    if own.heads * own.width != hidden:
        config.refuse(f"{own.heads} heads of {own.width} are not hidden_size, {hidden}")
    return own


FAMILIES: dict[str, Family] = {
    "llama": Family(
        read=decoder(LLAMA),
        architectures=("LlavaLlamaForCausalLM",),
    ),
    "Yi": Family(read=decoder(LLAMA)),
    "arcee": Family(read=decoder(replace(LLAMA, gated=False))),
    "iquestcoder": Family(read=decoder(replace(LLAMA, dialect=DENSE))),
    "cwm": Family(read=decoder(Style(dialect=OWN_HEAD_DIM, mlp_bias=MLP_BIAS), mixed())),
    "helium": Family(
        read=decoder(replace(LLAMA, dialect=OWN_HEAD_DIM, out_bias=False), heads=_helium_heads)
    ),
    "smollm3": Family(read=decoder(replace(LLAMA, dialect=DENSE, tie=True), unsettled)),
    "seed_oss": Family(read=decoder(_SEED_OSS)),
    "apertus": Family(read=decoder(_APERTUS, extra=_xielu)),
    "diffllama": Family(read=decoder(_NO_MLP_BIAS, extra=_lambdas)),
    "nanochat": Family(
        read=decoder(
            replace(
                LLAMA, mlp_bias=False, gated=False, norms=(), final="", mlp_names=("fc1", "fc2")
            )
        )
    ),
    "jais2": Family(
        read=decoder(
            replace(
                LLAMA,
                bias=("attention_bias", True),
                mlp_bias=("mlp_bias", True),
                gated=False,
                norm_bias=True,
            )
        )
    ),
    "persimmon": Family(read=decoder(_PERSIMMON)),
    "stablelm": Family(read=decoder(_STABLELM)),
    "baichuan": Family(
        read=decoder(Style(dialect=MULTI_HEAD, fused="W_pack")), classes=("baichuan", "baichuanm1")
    ),
    "aria_text": Family(
        read=decoder(replace(LLAMA, uncounted_if=("mlp_bias",)), mixture=_ARIA),
    ),
    "internlm": Family(read=decoder(Style(dialect=MULTI_HEAD, bias=("bias", True)))),
    "internlm2": Family(read=decoder(_INTERNLM2)),
    "internlm3": Family(read=decoder(_INTERNLM3)),
    "exaone": Family(read=decoder(_EXAONE)),
    "exaone4": Family(
        read=decoder(Style(norms=POST_NORM, qk_norm="head"), mixed(pattern=_PATTERN))
    ),
    "exaone_moe": Family(
        read=decoder(Style(qk_norm="head"), mixed(pattern=_PATTERN), NUM_SHARED, dense_first)
    ),
}

WRAPPERS: dict[str, Wrapper] = {"aria": Wrapper()}
