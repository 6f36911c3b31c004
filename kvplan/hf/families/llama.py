"""Llama and the models that are its layers with other constants, InternLM and EXAONE among them."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, buffer, extra, vector
from kvplan.hf.blocks.ends import Head
from kvplan.hf.config import Config
from kvplan.hf.families.base import Beside, Family, Wrapper, each
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    LLAMA,
    MLP_BIAS,
    POST_NORM,
    PRE_NORM,
    Style,
    attention,
    decoder,
    ends,
)
from kvplan.hf.families.experts import NUM_SHARED, Mixture, dense_first
from kvplan.hf.families.latent import LATENT, latent_decoder
from kvplan.hf.families.windows import mixed, unsettled
from kvplan.hf.geometry import DENSE, DIVIDED, MULTI_HEAD, OWN_HEAD_DIM, UNGROUPED, Dialect

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
    dialect=UNGROUPED,
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
# vLLM 0.33.0 step1.py:97; ALiBi needs no rotation.
_STEP1 = replace(
    LLAMA,
    dialect=Dialect(kv=("num_attention_groups", "num_key_value_heads"), head_dim=()),
    tie=True,
)
_ORION = Style(norm_bias=True, uncounted_if=("attention_bias", "bias"))
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
_SAVED = {"llama": decoder(replace(LLAMA, dialect=DENSE))}
"""transformers 5.24.0 (models/auto/modeling_auto.py) has Llama's class for these, and saves it."""
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


def _hyperclovax(config: Config) -> Model:
    """Norms after each branch too, where ``use_post_norm`` is on (HyperCLOVAXConfig: on)."""
    post = ("post_norm1", "post_norm2") if config.flag("use_post_norm") else ()
    return decoder(replace(LLAMA, norms=(*PRE_NORM, *post)))(config)


def _apertus_pruned(config: Config) -> Model:
    """The head may have fewer rows than the embedding: ``output_vocab_size``."""
    plain = decoder(_APERTUS, extra=_xielu)(config)

    def all_ends() -> Layer:
        rows = config.maybe("output_vocab_size") or config.size("vocab_size")
        blocks = ends(config, _APERTUS)
        return tuple(replace(b, rows=rows) if isinstance(b, Head) else b for b in blocks)

    return replace(plain, ends=all_ends)


FAMILIES: dict[str, Family] = {
    "hyperclovax": Family(read=_hyperclovax),
    "llama": Family(
        read=decoder(LLAMA),
        architectures=("LlavaLlamaForCausalLM",),
        classes=("vllama3",),  # SmolVLM's text part
    ),
    "Yi": Family(read=decoder(LLAMA)),
    "arcee": Family(read=decoder(replace(LLAMA, gated=False))),
    "iquestcoder": Family(read=_SAVED["llama"], saved_as=_SAVED),
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
    **each("xverse aquila", Family(read=decoder(_NO_MLP_BIAS))),
    **each("solar telechat3 TeleFLM", Family(read=decoder(LLAMA))),
    "step1": Family(read=decoder(_STEP1)),
    "orion": Family(read=decoder(_ORION)),
    "youtu": Family(read=latent_decoder(None, replace(LATENT, tie=True))),
    "persimmon": Family(read=decoder(_PERSIMMON)),
    **each("stablelm stablelm_epoch", Family(read=decoder(_STABLELM))),
    "baichuan": Family(
        read=decoder(Style(dialect=MULTI_HEAD, fused="W_pack")), classes=("baichuan", "baichuanm1")
    ),
    "aria_text": Family(
        read=decoder(replace(LLAMA, uncounted_if=("mlp_bias",)), mixture=_ARIA),
    ),
    "emu3_text_model": Family(read=decoder(Style()), classes=("emu3",)),
    "cosmos3_edge_text": Family(
        read=decoder(replace(LLAMA, dialect=OWN_HEAD_DIM, gated=False, mlp_names=("fc1", "fc2")))
    ),
    "apertus1p5_text": Family(read=_apertus_pruned),
    "internlm": Family(read=decoder(Style(dialect=MULTI_HEAD, bias=("bias", True)))),
    "internlm2": Family(read=decoder(_INTERNLM2)),
    "internlm3": Family(read=decoder(_INTERNLM3), saved_as=_SAVED),
    "exaone": Family(read=decoder(_EXAONE), saved_as=_SAVED),
    # Exaone4_5Config reads its text part as exaone4, whatever name it has.
    **each(
        "exaone4 exaone4_5_text",
        Family(read=decoder(Style(norms=POST_NORM, qk_norm="head"), mixed(pattern=_PATTERN))),
    ),
    "exaone_moe": Family(
        read=decoder(Style(qk_norm="head"), mixed(pattern=_PATTERN), NUM_SHARED, dense_first)
    ),
}

_SEES = Beside("vision_config", "vision tower")

WRAPPERS: dict[str, Wrapper] = {
    "aria": Wrapper(),
    "apertus1p5": Wrapper(
        text="apertus1p5_text", beside=(_SEES, Beside("audio_config", "audio tower"))
    ),
    "cosmos3_edge": Wrapper(text="cosmos3_edge_text", beside=(_SEES,), can_tie=False),
}
