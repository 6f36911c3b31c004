"""What kvplan makes of the same file, in the elements that transformers keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvplan.errors import KvplanError
from kvplan.hf.import_ import model_spec
from kvplan.spec import ModelSpec
from tests.hf.sweep.truth import NOT_LOADED, Kept, Truth

UNCOMPARED = {"compressed_kv", "latent_window", "compressor_state"}
"""DeepSeek-V4's: transformers pools while it reads, engines keep other tensors than these."""
ROLES = {"conv": "conv", "state": "state", "index_key": "index"}


@dataclass
class Answer:
    """kvplan's answer; ``refused`` says why where there is none."""

    total: int | None = None
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
        total=_total(spec),
        kept=_kept(spec),
        compared=not {kind.kind for kind in kinds} & UNCOMPARED,
        not_counted="; ".join(spec.not_counted),
        spec=spec,
    )


def _total(spec: ModelSpec) -> int | None:
    """Everything in the checkpoint: a tower that a model's published size leaves out as well."""
    if spec.parameters is None or spec.not_counted:
        return None
    beside = (row.elements for row in spec.weights if row.what == "not in parameters")
    return spec.parameters.total + sum(beside)


def _kept(spec: ModelSpec) -> Kept:
    """Growth in tokens, windows at their full size; layers that read another's cache have none.

    Convolutions are counted without the newest column here as there (see truth.py).
    """
    found = Kept()
    for kind, _, copies in spec.caches():
        if kind.per_encoder_input:
            continue
        for slot in kind.slots():
            elements = copies * slot.heads * slot.width
            if slot.role in ROLES:
                role = ROLES[slot.role]
                setattr(found, role, getattr(found, role) + elements)
            elif kind.growth():
                found.growth += int(elements * kind.growth())
            else:
                found.window += elements * kind.fixed_entries()
    return found


def verdict(expected: Truth, got: Answer) -> tuple[str, str]:
    """Right, wrong, refused, not loaded (by the class) or unjudged, and figures or the reason."""
    if got.refused:
        return "refused", got.refused
    wrong = []
    if got.total is not None and expected.total is not None and got.total != expected.total:
        wrong.append(f"parameters {got.total:,}, not {expected.total:,}")
    if got.compared and expected.kept is not None and got.kept != expected.kept:
        wrong.append(f"kept {got.kept}, not {expected.kept}")
    if wrong:
        return "wrong", "; ".join(wrong)
    if expected.problem:
        unread = expected.problem.startswith(NOT_LOADED)
        return "not loaded" if unread else "unjudged", expected.problem
    return ("right", "") if got.total is not None else ("right", f"not counted: {got.not_counted}")
