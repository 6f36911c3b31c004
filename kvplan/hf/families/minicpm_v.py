"""MiniCPM-V and MiniCPM-o: a version says whose layers the text model at the top has."""

from __future__ import annotations

from kvplan.hf.blocks.base import Model, Reader
from kvplan.hf.config import Config, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.llama import FAMILIES as LLAMAS
from kvplan.hf.families.minicpm import FAMILIES as MINICPM
from kvplan.hf.families.qwen import FAMILIES as QWEN

# vLLM 0.33.0 minicpmv.py:1944-2439 (V) and minicpmo.py (o).
_SEEING: dict[str, Reader] = {
    "2.0": MINICPM["minicpm"].read,
    "2.5": LLAMAS["llama"].read,
    "2.6": QWEN["qwen2"].read,
    "4.0": LLAMAS["llama"].read,
    "4.5": QWEN["qwen3"].read,
}
_OLDEST = {"hidden_size": 2304, "query_num": 64}
_HEARING: dict[str, Reader] = {"2.6": QWEN["qwen2"].read, "4.5": QWEN["qwen3"].read}


def _by_version(readers: dict[str, Reader]) -> Reader:
    def read(config: Config) -> Model:
        version = _version(config)
        if version is None:
            config.refuse(
                "version is missing, which says whether the text model is "
                "MiniCPM's, Llama's or Qwen's"
            )
        if version not in readers:
            known = ", ".join(readers)
            config.refuse(f"{config.name('version')} is {version}; known are {known}")
        return readers[version](config)

    return read


def _version(config: Config) -> str | None:
    """As a number or a text; the oldest files have none, and are 2.0 by their figures (vLLM)."""
    _, value = config.value("version")
    if value is None:
        oldest = all(config.raw.get(key) == size for key, size in _OLDEST.items())
        return "2.0" if oldest else None
    if type(value) not in (int, float, str):
        config.refuse(f"{config.name('version')} is {shown(value)}, not a version")
    text = str(value)
    return f"{text}.0" if text.isdecimal() else text[:20]


FAMILIES: dict[str, Family] = {
    "minicpmv": Family(read=_by_version(_SEEING), classes=("minicpmv", "minicpmv45"), sees=True),
    "minicpmo": Family(read=_by_version(_HEARING), sees=True),
}
