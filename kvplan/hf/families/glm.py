"""Zhipu's GLM: dense, with experts, with latent and sparse attention, and ChatGLM before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Extra, Layer, Model, buffer
from kvplan.hf.config import Config, UncountedError, shown
from kvplan.hf.families.base import Beside, Family, Wrapper, each
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    PRE_NORM,
    Style,
    attention,
    decoder,
    ends,
    mlp,
    model,
    norms,
)
from kvplan.hf.families.experts import (
    BALANCED,
    DEEPSEEK,
    but_the_first,
    by_topk_method,
    dense_first,
)
from kvplan.hf.families.glm_vision import glm4v
from kvplan.hf.families.latent import latent_decoder, sparse_decoder
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import DENSE, DIVIDED, OWN_HEAD_DIM, Dialect
from kvplan.hf.layers import layer_count

_GLM = Style(
    dialect=OWN_HEAD_DIM,
    bias=("attention_bias", True),
    out_bias=False,
    mlp_names=("gate_up_proj", "down_proj"),
)
_GLM4 = replace(_GLM, norms=(*PRE_NORM, "post_self_attn_layernorm", "post_mlp_layernorm"))
_GLM4_MOE = Style(
    bias=ATTENTION_BIAS, out_bias=False, qk_norm="head", qk_norm_key=("use_qk_norm", False)
)
_GLM4V_MOE = replace(
    _GLM4_MOE, bias=("attention_bias", True), qk_norm="", uncounted_if=("use_qk_norm",)
)
_GLM_4_1V = {
    "hidden_size": 4096,
    "intermediate_size": 13_696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "vocab_size": 151_552,
}
"""Glm4vTextConfig (transformers 5.24.0), and every published GLM-4.1V."""
_CHATGLM = Style(
    dialect=Dialect(kv=(), head_dim=("kv_channels",)),
    layers=("num_layers", "num_hidden_layers"),
    width=("ffn_hidden_size",),
    vocab=("padded_vocab_size", "vocab_size"),
    bias=("add_bias_linear", False),
    fused="query_key_value",
    out="dense",
    attn_root="self_attention",
    mlp_bias=("add_bias_linear", False),
    mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
    root="transformer.encoder.layers",
    final="transformer.encoder.final_layernorm",
    ends=("transformer.embedding.word_embeddings", "transformer.output_layer"),
)


def _glm4v_text(config: Config) -> Model:
    """GLM-4 with biases whatever ``attention_bias`` says (Glm4vTextAttention)."""
    config.ignore("attention_bias")
    return decoder(replace(_GLM4, dialect=DIVIDED, bias=True))(config)


def _glm4v_flat(config: Config) -> Model:
    """GLM-4.1V as transformers 4.53 saved it, with the text's figures at the top.

    4.57 reads them there; Glm4vConfig of 5.24.0 has its text's defaults in their place.
    """
    for key, default in _GLM_4_1V.items():
        if config.raw.get(key, default) != default:
            config.refuse(
                f"there is no text_config: transformers 4.57 reads {key} "
                f"{shown(config.raw[key])} at the top of the file, 5.24 takes {default}"
            )
    return _glm4v_text(config)


def _chatglm(config: Config) -> Model:
    """ChatGLM2, 3 and GLM-4-9B (their own modeling_chatglm.py).

    ``multi_query_group_num`` KV heads where ``multi_query_attention`` is on, else one a head.
    """
    heads, count = attention(config, _CHATGLM), layer_count(config, *_CHATGLM.layers)
    if config.flag("multi_query_attention"):
        heads = replace(heads, kv=config.count("multi_query_group_num"))
    config.ignore("multi_query_group_num")
    heads = replace(heads, bias=heads.bias or config.flag("add_qkv_bias"))

    def others() -> Sequence[Layer]:
        if not config.flag("rmsnorm", default=True) or config.has("pre_seq_len"):
            raise UncountedError("a ChatGLM with LayerNorm or a prefix encoder")
        return [(mlp(config, _CHATGLM), norms(_CHATGLM))] * count

    plain = model(config, _CHATGLM, [(heads,)] * count, others)
    return replace(plain, ends=lambda: _chatglm_ends(config, heads.width))


def _chatglm_ends(config: Config, width: int) -> Layer:
    """The head is never tied; half of each head is rotated, by frequencies that are stored."""
    config.ignore("tie_word_embeddings")
    if config.raw.get("tie_word_embeddings") is True:
        raise UncountedError("tie_word_embeddings is on, which ChatGLM's own code has no use for")
    last = _CHATGLM.final if config.flag("post_layer_norm", default=True) else ""
    rotary = buffer("other", "transformer.rotary_pos_emb.inv_freq", width // 4, dtype=None)
    return (Extra(tensors=tuple(rotary)), *ends(config, replace(_CHATGLM, final=last)))


_GLM4V_MOE_TEXT = Family(read=decoder(_GLM4V_MOE, never, BALANCED, dense_first))
"""transformers 4.57 saves it under the second name."""

FAMILIES: dict[str, Family] = {
    "glm": Family(read=decoder(_GLM)),
    "glm4": Family(read=decoder(_GLM4)),
    "glm4v_text": Family(read=_glm4v_text),
    "glm4v": Family(read=_glm4v_flat, sees=True),
    "glm_ocr_text": Family(read=decoder(replace(_GLM4, dialect=DENSE, bias=False))),
    "glm4_moe": Family(read=decoder(_GLM4_MOE, never, BALANCED, dense_first)),
    **each("glm4v_moe_text Glm4vMoe_text", _GLM4V_MOE_TEXT),
    "glm4_moe_lite": Family(read=latent_decoder(BALANCED, sparse=but_the_first)),
    "glm_moe_dsa": Family(read=sparse_decoder(replace(DEEPSEEK, correction=by_topk_method))),
    "chatglm": Family(read=_chatglm),
    "solar_open": Family(read=decoder(Style(bias=ATTENTION_BIAS, out_bias=False), never, BALANCED)),
}

WRAPPERS: dict[str, Wrapper] = {
    "glm4v": Wrapper(optional=True, tower=glm4v),
    "glm4v_moe": Wrapper(tower=glm4v),
    "glm46v": Wrapper(tower=glm4v),
    "glm_ocr": Wrapper(text="glm_ocr_text", beside=(Beside("vision_config", "vision tower"),)),
}
