"""Baidu's ERNIE 4.5, dense and with experts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.base import Block, Tensors
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import MAX_SIZE, Config, UncountedError
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.clip_vision import merged, tower
from kvplan.hf.families.decoder import Style, alternate, decoder, mlp
from kvplan.hf.families.experts import Mixture, dense_first
from kvplan.hf.families.windows import never

_BIAS = ("use_bias", False)
_DENSE = Style(bias=_BIAS, mlp_bias=_BIAS, tie=True)
_MOE = Style(tie=True, uncounted_if=("use_bias",))
_EXPERTS = Mixture(
    count=("moe_num_experts",),
    used=("moe_k",),
    shared=("moe_num_shared_experts",),
    correction="other",
)
_SIGHTS = ("text", "vision")


def _in_range(config: Config, layers: int) -> Iterable[int]:
    """Every ``moe_layer_interval``-th layer of a range (Ernie4_5_MoeConfig)."""
    first, last = (config.size(f"moe_layer_{end}_index", least=0) for end in ("start", "end"))
    step = config.size("moe_layer_interval")
    return [i for i in range(layers) if first <= i <= last and (i + 1) % step == 0]


@dataclass(frozen=True, kw_only=True)
class _ExpertsBySight(Block):
    """Experts for tokens of text and others for those of an image, which no token of text uses."""

    text: Experts
    vision: Experts

    def weights(self, hidden: int) -> Tensors:
        yield from self.text.weights(hidden)
        for tensor in self.vision.weights(hidden):
            yield replace(tensor, used=0)


def _forward(config: Config, style: Style, layers: int) -> Sequence[Block]:
    """``moe_intermediate_size`` has a width for text and one for images (Ernie4_5_VLMoeConfig)."""
    named = config.has("mlp_layer_types")
    where = dense_first(config, layers) if named else range(1, layers)
    return alternate(layers, where, _experts_by_sight(config), partial(mlp, config, style))


def _experts_by_sight(config: Config) -> _ExpertsBySight:
    widths, count = config.raw.get("moe_intermediate_size"), config.raw.get("moe_num_experts")
    if not isinstance(widths, list) or len(widths) != len(_SIGHTS) or isinstance(count, list):
        raise UncountedError(
            "moe_intermediate_size is not a width for text and one for images, or "
            "moe_num_experts is not one number for both"
        )
    number = config.size("moe_num_experts")
    text, vision = (
        Experts(
            expert=MLP(width=config.within("moe_intermediate_size", width, 1, MAX_SIZE)),
            count=number,
            used=config.size("moe_k"),
            correction="other",
            root=f"mlp.{sight}_moe",
        )
        for sight, width in zip(_SIGHTS, config.numbers("moe_intermediate_size") or (), strict=True)
    )
    shared = text.expert.width * config.size("moe_num_shared_experts", least=0)
    if shared:
        text = replace(text, shared=MLP(width=shared, root="mlp.shared_experts"))
    return _ExpertsBySight(text=text, vision=vision)


FAMILIES: dict[str, Family] = {
    "ernie4_5": Family(read=decoder(_DENSE)),
    "paddleocr_vl_text": Family(read=decoder(_DENSE)),
    "paddleocr_vl": Family(read=decoder(_DENSE), sees=True),
    "ernie4_5_moe": Family(read=decoder(_MOE, never, _EXPERTS, _in_range), classes=("ernie45moe",)),
    "ernie4_5_vl_moe_text": Family(read=decoder(_MOE, forward=_forward)),
}

WRAPPERS: dict[str, Wrapper] = {
    "ernie4_5_vl_moe": Wrapper(),
    "paddleocr_vl": Wrapper(
        optional=True,
        text="paddleocr_vl_text",
        tower=tower(merged),
    ),
}
