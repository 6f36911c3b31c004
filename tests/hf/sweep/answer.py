"""What kvplan makes of a file, and whether transformers agrees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvplan.errors import KvplanError
from kvplan.hf.import_ import model_spec
from kvplan.spec import ModelSpec
from tests.hf.sweep.elements import UNCOMPARED, Kept, kept_of
from tests.hf.sweep.truth import NOT_LOADED, Truth


@dataclass
class Answer:
    """kvplan's answer; ``refused`` says why where there is none."""

    total: int | None = None
    language: int | None = None
    """The language model's parameters where a tower is not counted."""
    kept: Kept | None = None
    compared: bool = True
    refused: str = ""
    not_counted: str = ""
    spec: ModelSpec | None = None

    @property
    def defaults(self) -> tuple[str, ...]:
        """Keys that kvplan says it took from the class."""
        return tuple(default.key for default in self.spec.class_defaults) if self.spec else ()


def answer(raw: dict[str, Any]) -> Answer:
    """Kvplan's reading of this config.json."""
    try:
        spec, _ = model_spec(raw, "config.json", "model", None)
    except KvplanError as error:
        return Answer(refused=error.message.removeprefix("config.json: "))
    kinds = [kind for kind, _, _ in spec.caches()]
    return Answer(
        total=spec.parameters.total if spec.parameters else None,
        language=spec.parameters.language if spec.parameters else None,
        kept=kept_of(spec),
        compared=not {kind.kind for kind in kinds} & UNCOMPARED,
        not_counted="; ".join(spec.not_counted),
        spec=spec,
    )


def verdict(expected: Truth, got: Answer) -> tuple[str, str]:
    """Right, wrong, refused, not loaded (by the class) or unjudged, and figures or the reason."""
    if got.refused:
        return "refused", got.refused
    wrong = [
        f"{name} {mine}, not {theirs}"
        for name, mine, theirs in (
            ("parameters", got.total, expected.total),
            ("language", got.language, expected.language),
            ("kept", got.kept if got.compared else None, expected.kept),
        )
        if mine is not None and theirs is not None and mine != theirs
    ]
    if wrong:
        return "wrong", "; ".join(wrong)
    if expected.problem:
        unread = expected.problem.startswith(NOT_LOADED)
        return "not loaded" if unread else "unjudged", expected.problem
    return ("right", "") if got.total is not None else ("right", f"not counted: {got.not_counted}")
