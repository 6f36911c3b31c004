"""Mistral's own params.json, beside or in place of a config.json, in its own spelling.

Keys and what a missing one means as in vLLM 0.33.0 transformers_utils/configs/mistral.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvplan.hf.blocks.base import Block
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import MAX_TOKENS, Config, Figure, UncountedError, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder, mlp
from kvplan.hf.families.windows import WindowPlan
from kvplan.hf.geometry import Dialect

_STYLE = Style(
    dialect=Dialect(heads=("n_heads",), hidden=("dim",), kv=("n_kv_heads",)),
    layers=("n_layers",),
    hidden=("dim",),
    width=("hidden_dim",),
    norms=("attention_norm", "ffn_norm"),
    attn_root="attention",
    out="wo",
    mlp_root="feed_forward",
    mlp_names=("w1", "w3", "w2"),
    root="layers",
    final="norm",
    ends=("tok_embeddings", "output"),
    tie_keys=("tied_embeddings",),
)


def _windows(config: Config, layers: Figure) -> WindowPlan:
    """``sliding_window`` on every layer, or a list that is repeated over them, null for full."""
    config.ignore("sliding_window")
    given = config.raw.get("sliding_window")
    spans = given if isinstance(given, list) else [given]
    if not spans or layers % len(spans):
        config.refuse(f"sliding_window lists {len(spans)} layers, and {layers} are no multiple")
    known = [_span(config, value) for value in spans]
    return WindowPlan([known[index % len(known)] for index in range(layers)])


def _span(config: Config, value: object) -> Figure | None:
    return None if value is None else config.within("sliding_window", value, 1, MAX_TOKENS)


def _forward(config: Config, style: Style, layers: int) -> Sequence[Block]:
    """An MLP in each layer, or Mixtral's experts of its width (``moe``)."""
    moe = config.section("moe")
    if moe is None:
        return [mlp(config, style)] * layers
    count, used = moe.size("num_experts"), moe.size("num_experts_per_tok")
    others = [key for key in moe.raw if key not in moe.read]
    if others:
        raise UncountedError(f"{moe.name(others[0])} is {shown(moe.raw[others[0]])}")
    expert = MLP(width=config.size(*style.width), names=style.mlp_names)
    return [Experts(expert=expert, count=count, used=used, root=style.mlp_root)] * layers


FAMILIES: dict[str, Family] = {
    "transformer": Family(read=decoder(_STYLE, _windows, forward=_forward)),
}
"""``transformer`` is what vLLM takes where params.json names no model_type."""
