"""DeepSeek's models of images and text."""

from __future__ import annotations

from kvplan.hf.families.base import Wrapper

WRAPPERS: dict[str, Wrapper] = {
    "deepseek_vl": Wrapper(ties=True),
    "deepseek_vl_v2": Wrapper(
        path=("language_config",),
        text="deepseek_v2",
        classes=("deepseekvlv2", "deepseekocr", "deepseekocr2"),
    ),
    "multi_modality": Wrapper(
        path=("language_config",), classes=("multimodality", "multimodalitycausallm")
    ),
}
