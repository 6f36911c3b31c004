"""China Telecom's TeleChat: Llama's layers with a bias at the end of each branch alone."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, extra, vector
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.geometry import Dialect

# vLLM 0.33.0 telechat2.py:52 names the keys and :63 the biases.
_TELECHAT = Style(
    dialect=Dialect(heads=("n_head", "num_attention_heads"), kv_absent="heads"),
    layers=("n_layer", "num_hidden_layers"),
    width=("ffn_hidden_size", "intermediate_size"),
    out_bias=True,
    out="dense",
    attn_root="self_attention",
    root="transformer.h",
    final="transformer.ln_f",
    ends=("transformer.word_embeddings", "lm_head"),
    uncounted_if=("embed_layernorm",),
)


def _bias(config: Config, _: Attention) -> Layer:
    return (extra(vector("dense_mlp", "mlp.down_proj.bias", config.size("hidden_size"))),)


FAMILIES: dict[str, Family] = {
    "telechat": Family(
        read=decoder(_TELECHAT, extra=_bias),
        classes=("telechat", "telechat2"),
    ),
}
