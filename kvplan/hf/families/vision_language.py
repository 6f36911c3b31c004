"""Models of images and text, or of sound, around the text model of another lineage."""

from __future__ import annotations

from kvplan.hf.families.base import Wrapper

_PLAIN = Wrapper()

WRAPPERS: dict[str, Wrapper] = {
    "llava": _PLAIN,
    "llava_next": _PLAIN,
    "llava_next_video": _PLAIN,
    "llava_onevision": _PLAIN,
    "vipllava": _PLAIN,
    "idefics3": _PLAIN,
    "smolvlm": Wrapper(classes=("smolvlm", "idefics3")),
    "got_ocr2": Wrapper(),
    "internvl": Wrapper(classes=("internvl", "interns1")),
    "internvl_chat": Wrapper(path=("llm_config",), classes=("internvlchat",)),
}
