"""DeepSeek: experts beside ordinary heads, latent attention (V2, V3), sparse attention (V3.2).

SK Telecom's A.X-K1 is V3 with a norm after the experts (AXK1Config).
"""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Kind, Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import LLAMA, decoder
from kvplan.hf.families.deepseek_v4 import DEEPSEEK_V4
from kvplan.hf.families.experts import BALANCED, DEEPSEEK, by_topk_method, dense_first
from kvplan.hf.families.latent import LATENT_KEYS, latent_decoder, sparse_decoder
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import DENSE

_HEADS = replace(LLAMA, dialect=DENSE, mlp_bias=False)
V3_EXPERTS = replace(DEEPSEEK, correction=by_topk_method)


def _v2_correction(config: Config) -> Kind | None:
    return "buffer" if config.word("topk_method") == "noaux_tc" else None


def _deepseek_v2(config: Config) -> Model:
    """MLA, but DeepSeek-VL2's smallest has ``use_mla`` off and ordinary heads."""
    if config.flag("use_mla", default=True):
        return latent_decoder(replace(DEEPSEEK, correction=_v2_correction))(config)
    config.ignore(*LATENT_KEYS)
    return decoder(_HEADS, never, DEEPSEEK, dense_first)(config)


FAMILIES: dict[str, Family] = {
    "deepseek": Family(read=decoder(_HEADS, never, DEEPSEEK, dense_first)),
    "deepseek_v2": Family(
        read=_deepseek_v2,
    ),
    "deepseek_v3": Family(
        read=latent_decoder(V3_EXPERTS), classes=("deepseekv3", "kimik2", "mistrallarge3")
    ),
    "deepseek_v32": Family(read=sparse_decoder(V3_EXPERTS)),
    "deepseek_v4": DEEPSEEK_V4,
    "deepseek_ocr2_text": Family(read=decoder(_HEADS, never, DEEPSEEK, dense_first)),
    "axk1": Family(read=latent_decoder(replace(BALANCED, norm="mlp.post_mlp_layernorm"))),
}

WRAPPERS: dict[str, Wrapper] = {
    "deepseek_vl": Wrapper(),
    "multi_modality": Wrapper(
        path=("language_config",), classes=("multimodality", "multimodalitycausallm")
    ),
    "deepseek_ocr2": Wrapper(
        text="deepseek_ocr2_text",
        beside=(Beside("vision_config", "vision tower"),),
    ),
    "deepseek_vl_v2": Wrapper(
        path=("language_config",),
        text="deepseek_v2",
        classes=("deepseekvlv2", "deepseekocr", "deepseekocr2"),
    ),
}
