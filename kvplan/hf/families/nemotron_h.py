"""NVIDIA's Nemotron-H and Nemotron-3: Mamba-2, attention, MLPs and experts in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, linear
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.blocks.recurrent import Mamba2
from kvplan.hf.config import MAX_LAYERS, Config, UncountedError, Word, shown
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import ATTENTION_BIAS, attention, mlp, model, norms
from kvplan.hf.families.experts import Mixture, experts
from kvplan.hf.families.mamba import BACKBONE
from kvplan.hf.families.states import mamba2
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, LINEAR, MTP, by_type, drafts

_NEMOTRON_H = replace(
    BACKBONE,
    dialect=OWN_HEAD_DIM,
    bias=ATTENTION_BIAS,
    gated=False,
    attn_root="mixer",
    mlp_root="mixer",
    uncounted_if=(
        "attention_bias",
        "mlp_bias",
        "use_bias",
        "mamba_proj_bias",
        "tie_word_embeddings",
    ),
)
_EXPERTS = Mixture(count=("n_routed_experts",), gated=False, correction="buffer", root="mixer")


def _nemotron_h(config: Config) -> Model:
    """One mixer and one norm a layer: Mamba-2, attention, MLP or experts (NemotronHConfig)."""
    types = _types(config, "hybrid_override_pattern", "layers_block_type")
    if types is None:
        config.missing("hybrid_override_pattern", "layers_block_type")
    given = config.maybe("num_hidden_layers")
    if given is not None and given != len(types):
        config.refuse(f"num_hidden_layers is {given}, but the pattern has {len(types)} layers")
    config.require("sliding_window")
    kinds: dict[str, Callable[[], Layer]] = {
        "mamba": lambda: (_mamba(config),),
        "attention": lambda: (_attention(config),),
        "mlp": tuple,
        "moe": tuple,
    }
    times = drafts(config, MTP)
    more = _types(config, "mtp_hybrid_override_pattern", "mtp_layers_block_type") or []
    return model(
        config,
        _NEMOTRON_H,
        by_type(config, types, kinds),
        lambda: _others(config, types),
        draft=by_type(config, [kind for kind in more if kind == "attention"] * times, kinds),
        layers_key=given.origin if given is not None else "length of the layer pattern",
    )


def _attention(config: Config) -> Attention:
    """``head_dim``; the model's first code has ``attention_head_dim``, which no class reads."""
    heads, first = attention(config, _NEMOTRON_H), config.maybe("attention_head_dim")
    if first not in (None, heads.width):
        name = config.name("head_dim")
        config.refuse(f"attention_head_dim is {first}, but {name} is {heads.width}")
    return heads


def _types(config: Config, pattern_key: str, list_key: str) -> list[str] | None:
    """A pattern of M, *, - and E, or a list of names, one a layer."""
    letters = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    alias = {LINEAR: "mamba", FULL: "attention"}
    pattern, names = config.word(pattern_key), config.words(list_key)
    listed = [alias.get(name, name) for name in names] if names else None
    if pattern is None:
        return listed
    if not 1 <= len(pattern) <= MAX_LAYERS:
        config.refuse(f"{pattern.origin} has {len(pattern)} layers")
    unknown = sorted(set(pattern) - set(letters))
    if unknown:
        config.refuse(f"{pattern.origin} has a layer {shown(unknown[0])}; known: M, *, -, E")
    types = [letters[letter] for letter in pattern]
    if listed is not None and listed != types:
        config.refuse(f"{pattern_key} and {list_key} contradict each other")
    return types


def _mamba(config: Config) -> Mamba2:
    """Decay figures are stored in the model's dtype (Nemotron-3-Nano).

    The state is fp32 where the file names no dtype, whatever the cache's: vLLM 0.33.0
    models/config.py, NemotronHForCausalLMConfig.
    """
    state = mamba2(
        config,
        heads="mamba_num_heads",
        width="mamba_head_dim",
        groups="n_groups",
        state="ssm_state_size",
        conv="conv_kernel",
        biases=("mamba_proj_bias", "use_conv_bias"),
    )
    own = state.state_dtype or Word("fp32", "what vLLM 0.33.0 takes for this family")
    return replace(state, decay_dtype=None, root="mixer", state_dtype=own)


def _others(config: Config, types: Sequence[str]) -> Sequence[Layer]:
    config.uncounted_if(*_NEMOTRON_H.uncounted_if)
    kinds: dict[str, Callable[[], Layer]] = {
        "mamba": tuple,
        "attention": tuple,
        "mlp": lambda: (mlp(config, _NEMOTRON_H),),
        "moe": lambda: _experts(config, len(types)),
    }
    norm = norms(_NEMOTRON_H)
    return [(*layer, norm) for layer in by_type(config, types, kinds)]


def _experts(config: Config, layers: int) -> Layer:
    """``moe_latent_size`` shrinks what the routed experts see, between two matrices of its own.

    Only the router's balancing bias is fp32 (Nemotron-3-Nano).
    """
    width = config.size("moe_shared_expert_intermediate_size", least=0)
    if config.size("n_shared_experts", least=0) != 1:
        raise UncountedError("n_shared_experts is not 1: vLLM multiplies by it, NemotronHMoE not")
    shared = MLP(width=width, gated=False, root="mixer.shared_experts") if width else None
    moe = replace(experts(config, _EXPERTS, layers), shared=shared)
    latent = config.maybe("moe_latent_size")
    if latent is None:
        return (moe,)
    hidden = config.size("hidden_size")
    down = linear("other", "mixer.fc1_latent_proj", latent, hidden)
    up = linear("other", "mixer.fc2_latent_proj", hidden, latent)
    return (replace(moe, narrow=latent), Extra(tensors=(*down, *up)))


FAMILIES: dict[str, Family] = {
    "nemotron_h": Family(read=_nemotron_h),
}

_OMNI = Wrapper(
    or_path=("llm_config",),
    text="nemotron_h",
    classes=tuple(f"nemotronh{size}omnireasoningv3" for size in ("", "nano", "super")),
    beside=(
        Beside("vision_config", "vision tower"),
        Beside("sound_config", "audio tower", optional=True),
    ),
)

WRAPPERS: dict[str, Wrapper] = {
    "NemotronH_Nano_VL_V2": Wrapper(path=("llm_config",)),
    "nemotron_h_omni": _OMNI,
    "NemotronH_Nano_Omni_Reasoning_V3": _OMNI,
    "NemotronH_Super_Omni_Reasoning_V3": _OMNI,
    "NemotronH_Omni_Reasoning_V3": _OMNI,
}
