"""StepFun's models of images and text."""

from __future__ import annotations

from kvplan.hf.families.base import Wrapper

WRAPPERS: dict[str, Wrapper] = {
    "step3_vl": Wrapper(text="step3_text", classes=("step3vl",)),
    "step3p7": Wrapper(optional=True, text="step3p5"),
}
