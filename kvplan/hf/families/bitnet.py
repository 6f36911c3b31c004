"""Microsoft's BitNet: Llama's layers with a norm before each branch's last matrix."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Norms
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, decoder


def _inner_norms(config: Config, _: Attention) -> Layer:
    """As wide as the model, and as the MLP (BitNetAttention, BitNetMLP)."""
    return (
        Norms(names=("self_attn.attn_sub_norm",)),
        Norms(names=("mlp.ffn_sub_norm",), width=config.size("intermediate_size")),
    )


FAMILIES: dict[str, Family] = {
    "bitnet": Family(read=decoder(Style(bias=ATTENTION_BIAS), extra=_inner_norms)),
}
