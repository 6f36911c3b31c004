"""Llama and the models that are its layers with other constants."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, Style, decoder
from kvplan.hf.families.windows import mixed, unsettled
from kvplan.hf.geometry import DENSE, OWN_HEAD_DIM

_LLAMA = Family(
    read=decoder(LLAMA),
    architectures=("LlavaLlamaForCausalLM",),
    nested_class="LlamaConfig",
    nested={"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "Yi": Family(read=decoder(LLAMA)),
    "arcee": Family(read=decoder(replace(LLAMA, gated=False))),
    "iquestcoder": Family(read=decoder(replace(LLAMA, dialect=DENSE))),
    "cwm": Family(read=decoder(Style(dialect=OWN_HEAD_DIM, mlp_bias=("mlp_bias", False)), mixed())),
    "helium": Family(read=decoder(replace(LLAMA, dialect=OWN_HEAD_DIM, out_bias=False))),
    "smollm3": Family(read=decoder(replace(LLAMA, dialect=DENSE, tie=True), unsettled)),
}
