"""Microsoft's Phi."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, INPUT, Style, decoder, uncounted
from kvplan.hf.families.experts import MIXTRAL
from kvplan.hf.families.windows import always
from kvplan.hf.geometry import MULTI_HEAD

_PHI = Style(
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
    uncounted_if=("qk_layernorm",),
)
_PHI3 = Style(dialect=MULTI_HEAD, fused="qkv_proj", mlp_names=("gate_up_proj", "down_proj"))
_PHI3_SMALL = Style(
    bias=True,
    norm_bias=True,
    mlp_bias=True,
    width=("ff_intermediate_size",),
    mlp_names=("up_proj", "down_proj"),
    fused="query_key_value",
    out="dense",
    final="model.final_layernorm",
    tie=True,
)
_PHIMOE = Style(bias=ATTENTION_BIAS, norm_bias=True, head_bias=("lm_head_bias", False))


def _seeing(model_type: str) -> Family:
    """Models with code of their own, which transformers 5.24.0 has no class for."""
    reason = f"no count of {model_type!r} yet"
    return Family(read=uncounted(decoder(_PHI3, always), reason), sees=True)


FAMILIES: dict[str, Family] = {
    "phi": Family(read=decoder(_PHI)),
    "phi3": Family(read=decoder(_PHI3, always)),
    "phi3small": Family(read=decoder(_PHI3_SMALL)),
    "phimoe": Family(read=decoder(_PHIMOE, always, MIXTRAL)),
    "phi4_multimodal": Family(read=decoder(_PHI3, always), sees=True),
    **{name: _seeing(name) for name in ("phi3_v", "phi4mm")},
    "phi4-siglip": replace(_seeing("phi4-siglip"), classes=("phi4",)),
}
