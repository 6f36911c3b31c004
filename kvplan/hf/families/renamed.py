"""Model types whose class is that of another family, under another name or with other keys.

Each row says which table maps it to the class: transformers 5.24.0
(models/auto/modeling_auto.py) or vLLM 0.33.0 (model_executor/models/registry.py).
"""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import ATTENTION_BIAS, LLAMA, Style, decoder
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.gpt import FAMILIES as GPT
from kvplan.hf.families.latent import latent_decoder
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import DENSE, OWN_HEAD_DIM

# SarvamMoEConfig and SarvamMLAConfig (transformers 5.24.0) take their first files' spellings too.
_SARVAM_EXPERTS = replace(
    BALANCED,
    count=("n_routed_experts", "num_experts", "num_local_experts"),
    shared=("n_shared_experts", "num_shared_experts"),
)
_SARVAM = Style(
    dialect=OWN_HEAD_DIM,
    bias=ATTENTION_BIAS,
    out_bias=False,
    qk_norm="head",
    qk_norm_key=("use_qk_norm", True),
    uncounted_if=("use_qkv_bias",),
)
_LLAMA = Family(read=decoder(LLAMA))

FAMILIES: dict[str, Family] = {
    # transformers 5.24.0: GPT2LMHeadModel, Glm4MoeForCausalLM, DeepseekV3ForCausalLM
    "gpt-sw3": replace(GPT["gpt2"], classes=("gpt2", "gptsw3")),
    "sarvam_moe": Family(
        read=decoder(_SARVAM, never, _SARVAM_EXPERTS, dense_first), classes=("sarvammoe", "glm4moe")
    ),
    "sarvam_mla": Family(read=latent_decoder(_SARVAM_EXPERTS), classes=("sarvammla", "deepseekv3")),
    # vLLM 0.33.0 registry.py: LlamaForCausalLM
    "telechat3": Family(read=decoder(replace(LLAMA, dialect=DENSE))),
    # vLLM until 0.22 and 0.23: LlamaForCausalLM
    "xverse": _LLAMA,
    "aquila": _LLAMA,
    # vLLM 0.33.0 orion.py: Llama's matrices with LayerNorms.
    "orion": Family(read=decoder(Style(norm_bias=True))),
}

WRAPPERS: dict[str, Wrapper] = {
    # vLLM 0.33.0 registry.py: the class of internvl
    "interns1": Wrapper(classes=("interns1", "internvl")),
}
