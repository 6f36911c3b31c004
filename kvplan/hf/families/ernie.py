"""Baidu's ERNIE 4.5, dense and with experts."""

from __future__ import annotations

from collections.abc import Iterable

from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.families.experts import Mixture
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import OWN_HEAD_DIM

_BIAS = ("use_bias", False)
_MOE = Style(tie=True, uncounted_if=("use_bias",))
_EXPERTS = Mixture(
    count=("moe_num_experts",),
    used=("moe_k",),
    shared="moe_num_shared_experts",
    correction="other",
)


def _in_range(config: Config, layers: int) -> Iterable[int]:
    """Every ``moe_layer_interval``-th layer of a range (Ernie4_5_MoeConfig)."""
    first, last = (config.size(f"moe_layer_{end}_index", least=0) for end in ("start", "end"))
    step = config.size("moe_layer_interval")
    return [i for i in range(layers) if first <= i <= last and (i + 1) % step == 0]


FAMILIES: dict[str, Family] = {
    "ernie4_5": Family(
        read=decoder(Style(dialect=OWN_HEAD_DIM, bias=_BIAS, mlp_bias=_BIAS, tie=True))
    ),
    "ernie4_5_moe": Family(read=decoder(_MOE, never, _EXPERTS, _in_range), classes=("ernie45moe",)),
    "ernie4_5_vl_moe_text": Family(
        read=decoder(_MOE, uncounted="no count of 'ernie4_5_vl_moe_text' yet")
    ),
}

WRAPPERS: dict[str, Wrapper] = {"ernie4_5_vl_moe": Wrapper(ties=True)}
