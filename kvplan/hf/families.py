"""Every architecture that kvplan can read, by ``model_type``: next month's model goes here.

A reader takes the text part of a config.json and returns each layer's caches in order. Where a
rule is not in the file but in the model's class, the class stands beside it: transformers 5.23.0
unless another source is named. A model type that is not listed is refused, however much its keys
look like a known one's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from kvplan.errors import UsageError
from kvplan.hf import latent, peculiar, recurrent
from kvplan.hf import ordinary as full
from kvplan.hf.geometry import DENSE, MULTI_HEAD, OWN_HEAD_DIM, Dialect
from kvplan.hf.layers import Reader

T = TypeVar("T")


def _each(names: str, value: T) -> dict[str, T]:
    """The same for each of these model types."""
    return dict.fromkeys(names.split(), value)


MISTRAL_WINDOW = "MistralConfig would slide at 4096 there, checkpoints as a rule say null"
_GEMMA = replace(DENSE, head_dim_absent="refuse")
_EMBED = Dialect(("num_attention_heads", "n_head"), ("hidden_size", "n_embed"), (), (), "heads")
_COHERE_PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")

FAMILIES: dict[str, Reader] = {
    # Every layer full; no num_key_value_heads is one a head, no head_dim hidden over heads.
    **_each(
        "llama olmo olmo2 olmoe flex_olmo phi cohere granite granitemoe "
        "granitemoeshared arcee apertus jais2 nanochat nemotron aria_text minicpm Yi "
        "diffllama persimmon gpt_neox baichuan internlm",
        full.dense(MULTI_HEAD),
    ),
    **_each(
        "internlm2 deepseek ernie4_5_moe ernie4_5_vl_moe_text glm4v_text glm4_moe "
        "glm4v_moe_text internlm3 iquestcoder solar_open stablelm hy_v3 "
        "bailing_moe bailing_moe_v2 phi3small qwen3_vl_moe_text",
        full.dense(DENSE),
    ),
    # The class's head_dim is a constant that need not be the model's: the file has to give it.
    **_each(
        "gemma glm glm4 seed_oss helium ernie4_5 qwen3_vl_text qwen3_omni_moe_text",
        full.dense(OWN_HEAD_DIM),
    ),
    "exaone": full.dense(DENSE, "num_layers", "num_hidden_layers"),
    "opt": full.dense(Dialect(kv=(), head_dim=(), kv_absent="heads")),
    "qwen": full.dense(Dialect(kv=(), head_dim=("kv_channels",), kv_absent="heads")),
    "bloom": full.dense(_EMBED, "n_layer", "num_hidden_layers"),
    "gpt2": full.dense(peculiar.GPT2, "n_layer", "num_hidden_layers"),
    "gptj": full.dense(peculiar.GPT2, "n_layer", "num_hidden_layers"),
    "gpt_bigcode": peculiar.gpt_bigcode,
    "falcon": peculiar.falcon,
    "RefinedWeb": peculiar.falcon,
    "RefinedWebModel": peculiar.falcon,
    "mpt": peculiar.mpt,
    "dbrx": peculiar.dbrx,
    "chatglm": peculiar.chatglm,
    "grok": peculiar.grok,
    "nemotron-nas": peculiar.nemotron_nas,
    "hunyuan": peculiar.hunyuan,
    "hunyuan_v1_dense": peculiar.hunyuan,
    "hunyuan_v1_moe": peculiar.hunyuan,
    "step3_text": peculiar.step3,
    "step3p5": peculiar.step3p5,
    "step3p7": peculiar.step3p5,
    # A window on every layer, or on some.
    "mistral": full.windowed(absent=MISTRAL_WINDOW),
    **_each(
        "mixtral starcoder2 phimoe",
        full.windowed(),
    ),
    "ministral3": full.windowed(OWN_HEAD_DIM),
    **_each(
        "phi3 phi3_v phi4mm phi4_multimodal",
        full.windowed(MULTI_HEAD),
    ),
    **_each(
        "qwen2 qwen2_vl qwen2_vl_text qwen2_5_vl qwen2_5_vl_text qwen2_5_omni_text",
        full.qwen_window(),
    ),
    "qwen2_moe": full.unsettled_window(),
    "smollm3": full.unsettled_window(),
    "qwen3_moe": full.unsettled_window(OWN_HEAD_DIM),
    "qwen3": full.qwen_window(OWN_HEAD_DIM),
    "mimo": full.qwen_window(),
    "dots1": peculiar.dots1,
    "ministral": full.hybrid_window(),
    "gemma2": full.hybrid_window(every=2, dialect=_GEMMA),
    "vaultgemma": full.hybrid_window(every=2, dialect=_GEMMA),
    "gemma3_text": full.gemma3,
    "gemma3n_text": full.gemma3n,
    "gemma4_text": full.gemma4,
    "gpt_oss": full.hybrid_window(every=2, dialect=OWN_HEAD_DIM),
    "olmo3": full.hybrid_window(every=4, dialect=MULTI_HEAD),
    "cohere2": full.hybrid_window(every=4, dialect=MULTI_HEAD, pattern=_COHERE_PATTERN),
    "afmoe": full.hybrid_window(dialect=OWN_HEAD_DIM, pattern=("global_attn_every_n_layers",)),
    "exaone4": full.hybrid_window(dialect=DENSE, pattern=("sliding_window_pattern",)),
    "exaone_moe": full.hybrid_window(dialect=DENSE, pattern=("sliding_window_pattern",)),
    "cohere2_moe": peculiar.cohere2_moe,
    "granite_swa": full.hybrid_window(),
    **_each(
        "cwm muse_glimmer_text mellum",
        full.hybrid_window(dialect=OWN_HEAD_DIM),
    ),
    "laguna": peculiar.laguna,
    "mimo_v2_flash": peculiar.mimo_v2,
    "llama4_text": full.llama4,
    # Latent and sparse attention.
    **_each(
        "deepseek_v3 kimi_k2 mistral4 mistral_large3 glm4_moe_lite axk1",
        latent.mla(),
    ),
    "deepseek_v2": latent.deepseek_v2,
    "minicpm3": latent.minicpm3,
    "longcat_flash": latent.mla("num_layers", copies=2),
    **_each(
        "deepseek_v32 glm_moe_dsa",
        latent.sparse_mla(),
    ),
    "deepseek_v4": latent.deepseek_v4,
    "minimax_m2": recurrent.minimax_m2,
    **_each(
        "minimax_m3 minimax_m3_vl_text",
        latent.minimax_m3,
    ),
    # Recurrent and mixed.
    **_each(
        "qwen3_next qwen3_5_text qwen3_5_moe_text",
        recurrent.qwen_next(),
    ),
    "olmo_hybrid": recurrent.olmo_hybrid,
    "kimi_linear": recurrent.kimi_linear,
    "bailing_hybrid": recurrent.bailing_hybrid,
    **_each(
        "minimax minimax_text_01 minimax_m1",
        recurrent.minimax_01,
    ),
    "nemotron_h": recurrent.nemotron_h,
    "jamba": recurrent.jamba,
    "bamba": recurrent.mamba2_hybrid,
    "granitemoehybrid": recurrent.mamba2_hybrid,
    "falcon_h1": recurrent.falcon_h1,
    "zamba2": recurrent.zamba2,
    "mamba": recurrent.mamba1,
    "falcon_mamba": recurrent.falcon_mamba,
    "mamba2": recurrent.mamba2,
    **_each(
        "lfm2 lfm2_moe",
        recurrent.lfm2,
    ),
    # Keys and values of another input.
    "mllama_text_model": full.mllama,
    "whisper": full.whisper,
}

WRAPPERS: dict[str, tuple[str, ...]] = {
    # Models around a text model: where its config stands. What is around it keeps no KV cache.
    **_each(
        "llava llava_next llava_next_video llava_onevision vipllava mistral3 paligemma "
        "gemma3 gemma3n gemma4 llama4 mllama qwen3_vl qwen3_vl_moe qwen3_5 qwen3_5_moe "
        "qwen2_audio idefics3 smolvlm aya_vision cohere2_vision internvl kimi_vl "
        "kimi_k25 kimi_k3 glm4v glm4v_moe glm46v muse_glimmer step3_vl minimax_m3_vl "
        "aria lfm2_vl lfm2-vl voxtral granite_speech ernie4_5_vl_moe got_ocr2 "
        "deepseek_vl",
        ("text_config",),
    ),
    **_each(
        "internvl_chat NemotronH_Nano_VL_V2",
        ("llm_config",),
    ),
    **_each(
        "deepseek_vl_v2 multi_modality",
        ("language_config",),
    ),
    **_each(
        "qwen2_5_omni qwen3_omni_moe",
        ("thinker_config", "text_config"),
    ),
}

OPTIONAL_WRAPPERS = ("qwen2_vl", "qwen2_5_vl", "step3p7")
"""Text keys at the top in some files, in ``text_config`` in others."""

UNNAMED_TEXT = {
    "step3p7": "step3p5",
    "step3_vl": "step3_text",
    "deepseek_vl_v2": "deepseek_v2",
    "qwen2_5_omni": "qwen2_5_omni_text",
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
}
"""Text model of a wrapper whose nested config names no model_type."""

CONTEXT_DEFAULTS = {"falcon": ("FalconConfig", 2048)}
"""Context of a file that names none, where published files leave it to the class (5.23.0)."""

ARCHITECTURES: dict[str, str] = {
    # model_type is another model's name in these files, or stands for none.
    "Grok1ForCausalLM": "grok",
    "Grok1ModelForCausalLM": "grok",
    "DeepseekV4ForCausalLM": "deepseek_v4",
    "LlavaLlamaForCausalLM": "llama",
    "LlavaMistralForCausalLM": "mistral",
    "LlavaQwenForCausalLM": "qwen2",
    "HunYuanForCausalLM": "hunyuan",
    "HunYuanMoEV1ForCausalLM": "hunyuan_v1_moe",
}

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    # Class names in ``architectures`` that are not the model type spelt in capitals.
    "kimi_k2": ("deepseekv3",),
    "qwen": ("qwenlmhead",),
    "nemotron-nas": ("decilm",),
    "step3p7": ("step3p7flash", "step3p5"),
    "step3p5": ("step3p7", "step3p7flash"),
    "internvl_chat": ("internvlchat",),
    "internvl": ("internvl", "interns1"),
    "deepseek_vl_v2": ("deepseekvlv2", "deepseekocr", "deepseekocr2"),
    "multi_modality": ("multimodality", "multimodalitycausallm"),
    "RefinedWeb": ("rw", "falcon"),
    "RefinedWebModel": ("rw", "falcon"),
    "bailing_moe": ("bailingmoe", "bailingmoev2"),
    "bailing_moe_v2": ("bailingmoev2",),
    "bailing_hybrid": ("bailinghybrid", "bailingmoev2_5", "bailingmoev25"),
    "ernie4_5_moe": ("ernie45moe",),
    "minimax_m3": ("minimaxm3", "minimaxm3sparse"),
    "minimax_m3_vl": ("minimaxm3vl", "minimaxm3sparse"),
    "step3_text": ("step3text", "step3"),
    "step3_vl": ("step3vl",),
    "hunyuan_v1_dense": ("hunyuandensev1",),
    "hunyuan": ("hunyuandensev1", "hunyuanmoev1", "hunyuan"),
    "gemma3n_text": ("gemma3n",),
    "mllama_text_model": ("mllamatext", "mllama"),
    "qwen2_5_omni": ("qwen25omni", "qwen25omnithinker"),
    "mistral3": ("mistral3", "pixtral"),
    "smolvlm": ("smolvlm", "idefics3"),
    "deepseek_v3": ("deepseekv3", "kimik2", "mistrallarge3"),
    "mixtral": ("mixtral", "phimoe"),
    "baichuan": ("baichuan", "baichuanm1"),
}

NESTED_DEFAULTS: dict[str, tuple[str, dict[str, int]]] = {
    # transformers writes a nested config as its difference from the class; 5.23.0.
    "llama": (
        "LlamaConfig",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
    ),
    "mistral": (
        "MistralConfig",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
        },
    ),
    "qwen2": (
        "Qwen2Config",
        {
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
    ),
    "gemma": ("GemmaConfig", {"head_dim": 256}),
    "gemma2": ("Gemma2Config", {"head_dim": 256}),
    "gemma3_text": (
        "Gemma3TextConfig",
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "max_position_embeddings": 131_072,
        },
    ),
    "deepseek_v2": (
        "DeepseekV2Config",
        {
            "num_attention_heads": 32,
            "kv_lora_rank": 512,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
        },
    ),
}

_ASSUMABLE: dict[str, Reader] = {
    "full_attention": full.dense(OWN_HEAD_DIM),
    "sliding_window": full.windowed(OWN_HEAD_DIM),
    "mla": latent.mla(),
}


def assumed(kind: str) -> Reader:
    """A reader that takes every layer for this kind. Raises UsageError for any other kind."""
    if kind not in _ASSUMABLE:
        raise UsageError(f"--assume kind={kind} is not possible: {', '.join(_ASSUMABLE)} are")
    return _ASSUMABLE[kind]
