"""Models of images and text, or of sound, around the text model of another lineage."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Beside, Wrapper
from kvplan.hf.families.clip_vision import shuffled, tower, two_layers
from kvplan.hf.families.internvl_vision import internvl
from kvplan.hf.families.mistral_vision import pixtral

_PLAIN = Wrapper()
_TILED = Wrapper(tower=tower(two_layers, newline=True))
_SHUFFLED = Wrapper(tower=tower(shuffled))
_SEES = (Beside("vision_config", "vision tower"),)
_HEARS = (Beside("audio_config", "audio tower"),)
_QFORMER = (*_SEES, Beside("qformer_config", "query transformer"))
_VISION = Wrapper(beside=_SEES)
_AUDIO = Wrapper(beside=_HEARS)
_INNER = Wrapper(path=("llm_config",))
_THINKER = Wrapper(beside=(*_SEES, *_HEARS))

_IMAGES: dict[str, Wrapper] = {
    "llava": Wrapper(tower=tower(two_layers), classes=("llava", "mantis", "tarsier")),
    "llava_next": _TILED,
    "llava_next_video": _TILED,
    "llava_onevision": _TILED,
    "vipllava": _PLAIN,
    "video_llava": _VISION,
    "video_llama_3": _VISION,
    "idefics2": Wrapper(text="mistral", beside=(*_SEES, Beside("perceiver_config", "perceiver"))),
    "idefics3": _SHUFFLED,
    "smolvlm": replace(_SHUFFLED, classes=("smolvlm", "idefics3")),
    "got_ocr2": _PLAIN,
    "pp_chart2table": replace(_VISION, classes=("gotocr2",)),
    "internvl": Wrapper(tower=internvl, classes=("internvl", "interns1")),
    "interns1": replace(_VISION, classes=("interns1", "internvl")),
    "internvl_chat": replace(_INNER, classes=("internvlchat",)),
    "qianfan_ocr": _VISION,
    "skywork_chat": replace(_INNER, classes=("skyworkr1vchat",)),
    "h2ovl_chat": replace(_INNER, classes=("h2ovlchat",)),
    "NVLM_D": replace(_INNER, classes=("nvlmd",)),
    "Llama_Nemotron_Nano_VL": replace(_INNER, classes=("llamanemotronnanovl",)),
    "eagle_2_5_vl": replace(_VISION, classes=("eagle25vl",)),
    "blip-2": Wrapper(text="opt", beside=_QFORMER),
    "instructblip": Wrapper(text="opt", beside=_QFORMER),
    "instructblipvideo": Wrapper(text="opt", beside=_QFORMER),
    "deepseek_vl_hybrid": replace(
        _VISION,
        beside=(*_SEES, Beside("high_res_vision_config", "second vision tower")),
    ),
    "janus": replace(_VISION, beside=(*_SEES, Beside("vq_config", "image tokenizer"))),
    "exaone4_5": _VISION,
    "fast_vlm": _VISION,
    "fuyu": _PLAIN,
    "glmga": replace(_VISION, classes=("glmga", "glm46v")),
    "lighton_ocr": Wrapper(tower=pixtral),
    "minicpm_ocr": _VISION,
    "minicpmv4_6": _VISION,
    "minicpmv4_7": _VISION,
    "ovis": replace(_INNER, classes=("ovis",)),
    "ovis2": replace(_VISION, text="qwen2"),
    "ovis2_5": Wrapper(
        path=("llm_config",),
        or_path=("text_config",),
        text="qwen3",
        classes=("ovis25", "ovis26", "ovis26moe"),
    ),
    "perception_lm": _VISION,
    "shieldgemma2": replace(_VISION, text="gemma3_text", classes=("gemma3",)),
    "emu3": replace(_PLAIN, beside=(Beside("vq_config", "image tokenizer"),)),
    "cosmos3_omni": replace(_VISION, classes=("cosmos3",)),
    "hyperclovax_vlm": replace(_VISION, classes=("hcxvision",)),
    "vlm": replace(_VISION, classes=("hcxvisionv2",)),
    "hyperclovax_vision_v2": replace(_VISION, classes=("hcxvisionv2",)),
    "step_robotics": replace(_VISION, classes=("stepvl", "step3vl10b")),
    "llava_onevision2": _VISION,
    "kanana-1.5-v": replace(_VISION, classes=("kananav",)),
    "minimax_vl_01": Wrapper(text="minimax_text_01", beside=_SEES, classes=("minimaxvl01",)),
    "opencua": replace(_VISION, text="qwen2"),
    "bagel": replace(_INNER, beside=(Beside("vit_config", "vision tower"),)),
    "openvla": Wrapper(text="llama", classes=("openvlaforactionprediction",)),
}

_SOUND: dict[str, Wrapper] = {
    "audioflamingo3": _AUDIO,
    "musicflamingo": _AUDIO,
    "fun_asr_nano": replace(_AUDIO, text="qwen3"),
    "glmasr": _AUDIO,
    "moss_transcribe_diarize": replace(_AUDIO, text="qwen3"),
    "nemo_speechlm": replace(_AUDIO, text="nemotron_h", classes=("nemotron35transcribe",)),
    "omniasr": replace(_AUDIO, text="llama", can_tie=False),
    "qwen3_asr": replace(
        _AUDIO,
        text="qwen3",
        or_path=("thinker_config", "text_config"),
        beside=(),
        classes=("qwen3asrrealtimegeneration",),
    ),
    "vibevoice_asr": Wrapper(
        can_tie=False,
        text="qwen2",
        beside=(
            Beside("acoustic_tokenizer_encoder_config", "acoustic tokenizer"),
            Beside("semantic_tokenizer_encoder_config", "semantic tokenizer"),
        ),
    ),
    "vibevoice": Wrapper(
        text="qwen2",
        beside=(*_HEARS, Beside("diffusion_head_config", "diffusion head")),
    ),
    "ultravox": replace(_AUDIO, classes=("ultravox",)),
    "midashenglm": replace(_AUDIO, text="qwen2"),
    "funaudiochat": replace(_AUDIO, text="qwen3"),
    "qwen2_5_omni_thinker": _THINKER,
    "qwen3_omni_moe_thinker": _THINKER,
}

WRAPPERS: dict[str, Wrapper] = {**_IMAGES, **_SOUND}
