"""Inception's first Jais: GPT-2's layers with ALiBi and a gated MLP (its own modeling_jais.py)."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import decoder
from kvplan.hf.families.gpt import GPT2
from kvplan.hf.families.windows import full


def _jais(config: Config) -> Model:
    """``swiglu`` has a second matrix of the inner width; ``alibi`` stores no positions."""
    positions = config.word("position_embedding_type") or "learned"
    if positions not in ("alibi", "learned"):
        config.refuse(f"position_embedding_type is {shown(str(positions))}; known: alibi, learned")
    style = replace(GPT2, positions=() if positions == "alibi" else GPT2.positions)
    if config.word("activation_function") == "swiglu":
        style = replace(style, gated=True, mlp_names=("c_fc", "c_fc2", "c_proj"))
    return decoder(style, full)(config)


FAMILIES: dict[str, Family] = {"jais": Family(read=_jais, classes=("jaislmhead",))}
