"""Options whose value is a JSON object, as vLLM takes them; a file or Python gives a mapping."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kvplan.errors import SpecError, UsageError
from kvplan.json_text import parse_json
from kvplan.limits import MOST_SIZE

LIMITS = "limit_mm_per_prompt"
_MODALITIES = {
    "image": ("count", "width", "height"),
    "video": ("count", "num_frames", "width", "height"),
    "audio": ("count", "length"),
    "vision_chunk": ("count",),
}
"""vLLM 0.33.0 config/multimodal.py, MultiModalDummyOptions; Kimi-K2.5 has the last one."""


def json_object(name: str, given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The object that this option is. Raises UsageError."""
    data = given
    if isinstance(given, str):
        try:
            data = parse_json(given, name)
        except SpecError as error:
            reason = error.problems[0].partition(": ")[2]
            raise UsageError(f"{name}: {reason}", f"{name} is an object of JSON") from None
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise UsageError(f"{name} has to be an object of JSON", 'write {"key": "value"}')
    return dict(data)


def read_mm_limits(given: str | Mapping[str, Any]) -> str:
    """The limits in one line of JSON. Raises UsageError.

    ``{"image": 4}``, or with the sizes that are tried: ``{"image": {"count": 4, "width": 512}}``.
    """
    limits = json_object(LIMITS, given)
    for modality, limit in limits.items():
        if modality not in _MODALITIES:
            known = ", ".join(_MODALITIES)
            raise UsageError(f"{LIMITS} has no {modality[:60]!r}", f"it has {known}")
        options = limit if isinstance(limit, Mapping) else {"count": limit}
        for key, value in options.items():
            _check_limit(modality, key, value)
    return json.dumps(limits)


def _check_limit(modality: str, key: object, value: object) -> None:
    known = _MODALITIES[modality]
    if key not in known:
        hint = f"it has {', '.join(known)}"
        raise UsageError(f"{LIMITS}: {modality} has no {str(key)[:60]!r}", hint)
    least = 0 if key == "count" else 1
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST_SIZE:
        raise UsageError(
            f"{LIMITS}: {key} of {modality} has to be a whole number, {least} to {MOST_SIZE:,}, "
            f"not {str(value)[:60]!r}"
        )
