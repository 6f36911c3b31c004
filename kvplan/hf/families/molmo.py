"""Ai2's Molmo, whose text figures stand at the top of the file, and Molmo-2."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.blocks.ends import Embedding
from kvplan.hf.config import Config, shown
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import LLAMA, Style, decoder, ends, uncounted
from kvplan.hf.geometry import MULTI_HEAD, OWN_HEAD_DIM

_MOLMO = replace(LLAMA, dialect=MULTI_HEAD, bias=False, mlp_bias=False)
_NORMED = {"qwen3": "head", "olmo": "all"}


def _molmo2(config: Config) -> Model:
    """``use_qk_norm`` normalises a head (qwen3) or all of them (olmo), by ``qk_norm_type``.

    ``additional_vocab_size`` rows are embedded and never predicted (Molmo2TextConfig: 128).
    """
    config.ignore("num_nextn_predict_layers", "norm_after", "rope_scaling_layers")
    kind = config.word("qk_norm_type") or "qwen3"
    if kind not in _NORMED:
        known = ", ".join(_NORMED)
        config.refuse(f"{config.name('qk_norm_type')} is {shown(str(kind))}; known are {known}")
    style = Style(
        dialect=OWN_HEAD_DIM,
        bias=("qkv_bias" if config.has("qkv_bias") else "attention_bias", False),
        out_bias=False,
        qk_norm="head" if kind == "qwen3" else "all",
        qk_norm_key=("use_qk_norm", True),
    )
    config.ignore("qkv_bias", "attention_bias")
    more = config.maybe("additional_vocab_size", least=0)

    def rows() -> Embedding:
        return Embedding(rows=128 if more is None else more, name="model.embed_tokens.new")

    return replace(decoder(style)(config), ends=lambda: (rows(), *ends(config, style)))


def _molmo(config: Config) -> Model:
    """Molmo-7B and 72B (vLLM 0.33.0 molmo.py:414): head width is hidden size over heads."""
    config.ignore("attention_layer_norm", "qkv_bias")
    return uncounted(decoder(_MOLMO), "no count of Molmo's added rows of the embedding yet")(config)


FAMILIES: dict[str, Family] = {
    "molmo": Family(read=_molmo, sees=True),
    "molmo2_text": Family(read=_molmo2),
}

WRAPPERS: dict[str, Wrapper] = {
    "molmo2": Wrapper(
        text="molmo2_text",
        beside=(
            Beside("vision_config", "vision tower", optional=True),
            Beside("vit_config", "vision tower", optional=True),
            Beside("adapter_config", "vision adapter"),
        ),
    ),
}
