"""Shanghai's InternLM."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.geometry import MULTI_HEAD

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

FAMILIES: dict[str, Family] = {
    "internlm": Family(read=decoder(Style(dialect=MULTI_HEAD, bias=("bias", True)))),
    "internlm2": Family(read=decoder(_INTERNLM2)),
    "internlm3": Family(read=decoder(_INTERNLM3)),
}
