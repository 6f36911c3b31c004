"""IBM's Granite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.mlp import GATED, MLP
from kvplan.hf.config import Config
from kvplan.hf.families.bamba import mamba2_hybrid
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import ATTENTION_BIAS, LLAMA, Style, decoder, model, norms
from kvplan.hf.families.experts import MIXTRAL, experts
from kvplan.hf.families.windows import mixed, never
from kvplan.hf.geometry import DENSE, MULTI_HEAD

_NO_MLP_BIAS = replace(LLAMA, mlp_bias=False)
_EXPERTS = replace(MIXTRAL, router="router.layer", names=GATED, shared_root="shared_mlp")
_SHARED = replace(_EXPERTS, shared_width=("shared_intermediate_size",))
_HYBRID = Style(dialect=MULTI_HEAD, bias=ATTENTION_BIAS)


def _hybrid(config: Config) -> Model:
    """GraniteMoeHybrid: an MLP in every layer, experts where ``num_local_experts`` is set."""
    layers = mamba2_hybrid(config, _HYBRID)

    def others() -> Sequence[Layer]:
        shared = MLP(
            width=config.size("shared_intermediate_size"),
            names=("input_linear", "output_linear"),
            part="shared_experts",
            root="shared_mlp",
        )
        if not config.settles("num_local_experts"):
            config.uncounted("num_local_experts")
        routed = config.maybe("num_local_experts", least=0)
        more = (experts(config, _EXPERTS, len(layers)),) if routed else ()
        return [(shared, norms(_HYBRID), *more)] * len(layers)

    return model(config, _HYBRID, layers, others)


FAMILIES: dict[str, Family] = {
    "granite": Family(read=decoder(LLAMA)),
    "granite_swa": Family(
        read=decoder(replace(LLAMA, dialect=DENSE, tie=True, sinks="sinks"), mixed())
    ),
    "granitemoe": Family(read=decoder(_NO_MLP_BIAS, never, _EXPERTS)),
    "granitemoeshared": Family(read=decoder(_NO_MLP_BIAS, never, _SHARED)),
    "granitemoehybrid": Family(read=_hybrid),
}

WRAPPERS: dict[str, Wrapper] = {
    # GraniteSpeechConfig's window_size is of frames of sound, for its projector.
    "granite_speech": Wrapper(
        beside=(Beside("encoder_config", "audio tower"),), own_keys=("window_size",)
    ),
}
