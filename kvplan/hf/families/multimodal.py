"""Wrappers whose text model is another family's class as it is, and that keep nothing themselves.

Each class of transformers 5.24.0 makes it by ``AutoModel.from_config(config.text_config)``; a text
config without a model type is of the type that the wrapper's own config class names.
"""

from __future__ import annotations

from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.llama import FAMILIES as LLAMA

FAMILIES: dict[str, Family] = {
    # Exaone4_5Config reads its text part as exaone4, whatever name it has.
    "exaone4_5_text": LLAMA["exaone4"],
}

WRAPPERS: dict[str, Wrapper] = {
    "deepseek_vl_hybrid": Wrapper(text="llama"),
    "exaone4_5": Wrapper(text="exaone4"),
    "fast_vlm": Wrapper(text="qwen2"),
    "glmga": Wrapper(text="glm4v_text", classes=("glmga", "glm46v")),
    "granite_speech_plus": Wrapper(text="granite"),
    "idefics2": Wrapper(text="mistral"),
    "janus": Wrapper(text="llama"),
    "lighton_ocr": Wrapper(text="qwen3"),
    "minicpm_ocr": Wrapper(text="qwen3_5_text"),
    "minicpmv4_6": Wrapper(text="qwen3_5_text"),
    "minicpmv4_7": Wrapper(text="qwen3_5_text"),
    "moss_transcribe_diarize": Wrapper(text="qwen3"),
    "ovis2": Wrapper(text="qwen2"),
    "perception_lm": Wrapper(text="llama"),
    "pp_chart2table": Wrapper(text="qwen2", classes=("ppchart2table", "gotocr2")),
    "qianfan_ocr": Wrapper(text="qwen3"),
    "qwen3_asr": Wrapper(text="qwen3"),
    "vibevoice_asr": Wrapper(text="qwen2"),
    "video_llama_3": Wrapper(text="qwen2"),
    "video_llava": Wrapper(text="llama"),
}
