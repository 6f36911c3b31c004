"""xAI's Grok-1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, mlp, model, norms
from kvplan.hf.families.experts import USED, some_of
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import layer_count

_STYLE = Style(
    dialect=OWN_HEAD_DIM,
    norms=("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"),
)


def _grok(config: Config) -> Model:
    """Full attention; ``sliding_window_size`` -1 is none."""
    config.require("sliding_window_size", -1)
    config.require("global_attn_every_n", 1)
    layer, count = (attention(config, _STYLE),), layer_count(config)
    draft = never(config, count).draft
    others = partial(_others, config, count)
    return model(config, _STYLE, [layer] * count, others, draft=[layer] * draft)


def _others(config: Config, layers: int) -> Sequence[Layer]:
    """Grok-2: a dense MLP beside the experts (``residual_moe``).

    Grok-1 has neither key: its experts are ``intermediate_size`` wide (xai-org/grok-1 model.py).
    """
    second = config.has("residual_moe")
    first = config.has("tie_word_embeddings") and not config.has("moe_intermediate_size")
    if not second and not first:
        config.uncounted("residual_moe", "tie_word_embeddings")
    count = config.size("num_local_experts", "num_experts")
    experts = Experts(
        expert=MLP(
            width=config.size("moe_intermediate_size" if second else "intermediate_size"),
            names=("w1", "w3", "w2"),
        ),
        count=count,
        used=some_of(config, count, config.size(*USED), USED[0]),
        root="block_sparse_moe",
    )
    beside = (mlp(config, _STYLE),) if config.flag("residual_moe") else ()
    return [(experts, *beside, norms(_STYLE))] * layers


FAMILIES: dict[str, Family] = {
    "grok": Family(read=_grok, architectures=("Grok1ForCausalLM", "Grok1ModelForCausalLM")),
}
