"""Files with a key less, a key that is null, or another value, and what both sides make of them."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from kvplan.hf.families import FAMILIES, WRAPPERS
from tests.hf.models import MODELS, changed
from tests.hf.sweep import small
from tests.hf.sweep.answer import Answer, answer, verdict
from tests.hf.sweep.perturb import LEFT_ALONE, changes_caches
from tests.hf.sweep.truth import NOT_LOADED, Truth, truth

Row = dict[str, Any]
REFERENCE = Path(__file__).parents[4] / "shared" / "reference"
MOST = 40_000_000
"""Parameters of a model that is worth a pass on the CPU."""
_NAMES = {"model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "auto_map"}


@cache
def _model_classes() -> dict[str, str]:
    """The first class for each model type."""
    found = {"whisper": "WhisperForConditionalGeneration"}
    for decoder in small.decoders():
        found.setdefault(decoder.model_type, decoder.model_class)
    return found


def small_files(only: set[str]) -> Iterator[tuple[str, Row]]:
    """The small file of every class whose model type kvplan reads."""
    for decoder in small.decoders():
        known = decoder.model_type in FAMILIES or decoder.model_type in WRAPPERS
        if known and (not only or decoder.model_type in only):
            # What cannot be made is reported by the sweep.
            with contextlib.suppress(Exception):
                yield decoder.model_class, small.saved(small.made(decoder))


def published_files() -> Iterator[tuple[str, Row]]:
    """Configs of models.jsonl and of the reference, where it lies beside the checkout."""
    for name in MODELS:
        yield name, changed(name, {})
    for path in sorted(REFERENCE.glob("hf-configs*/*/config.json")):
        yield path.parent.name, json.loads(path.read_text(encoding="utf-8"))


def places(raw: Row) -> list[tuple[str, ...]]:
    """Every key of the file and of its sections, as a path."""
    found: list[tuple[str, ...]] = []
    for key, value in raw.items():
        if key in _NAMES or LEFT_ALONE.fullmatch(key):
            continue
        if isinstance(value, dict) and key.endswith("_config") and "quantization" not in key:
            found += [(key, *place) for place in places(value)]
        else:
            found.append((key,))
    return found


def without(raw: Row, place: tuple[str, ...], *value: Any) -> Row:
    """The file without this key, or with another value there."""
    changed_file = copy.deepcopy(raw)
    section = changed_file
    for key in place[:-1]:
        section = section[key]
    if value:
        section[place[-1]] = value[0]
    else:
        section.pop(place[-1], None)
    return changed_file


def another(draw: random.Random, value: Any) -> Any:
    """A value of the same kind that a file could have."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice([1, 2, 4, 8, max(1, value // 2), value * 2, value + 1])
    if isinstance(value, list) and len(value) > 1:
        return draw.choice([value[::-1], value[1:] + value[:1], [value[0]] * len(value)])
    if value is None:
        return draw.choice([1, 2, 8, 16])
    return None


def truth_of(raw: Row, *, caches: bool) -> Truth:
    """What transformers makes of this file; its problem where it does not load."""
    raw = copy.deepcopy(raw)
    model_type = raw.get("model_type")
    if model_type not in CONFIG_MAPPING or model_type not in _model_classes():
        return Truth(problem="no class in transformers")
    classes = raw.setdefault("architectures", [_model_classes()[model_type]])
    if not hasattr(transformers, classes[0]):
        return Truth(problem="no class in transformers")
    try:
        config = small.loaded(raw)
    except Exception as error:  # noqa: BLE001 - whatever a class raises is its answer
        return Truth(problem=f"{NOT_LOADED}: {type(error).__name__}: {error}"[:200])
    for level in (config, config.get_text_config()):
        with contextlib.suppress(Exception):
            level.pad_token_id = 0
    key = json.dumps([_shape(config.to_dict()), caches], sort_keys=True, default=str)
    if key not in _KNOWN:
        _KNOWN[key] = _truth(config, caches=caches)
    return _KNOWN[key]


_KNOWN: dict[str, Truth] = {}
"""Answers by what of a config can decide them: many a change leaves all of that as it was."""


def _shape(data: Any) -> Any:
    """The data without numbers that no tensor's shape rests on."""
    if not isinstance(data, dict):
        return data
    return {
        key: _shape(value)
        for key, value in data.items()
        if not LEFT_ALONE.fullmatch(str(key))
        and (not isinstance(value, float) or _RATIO.search(str(key)))
    }


_RATIO = re.compile("ratio|expan|mult|factor")


def _truth(config: Any, *, caches: bool) -> Truth:
    counted = truth(config, caches=False)
    if counted.total is None or counted.total > MOST or not caches:
        return counted
    return truth(config)


def compared(name: str, raw: Row, what: str, keys: list[str], *, caches: bool = True) -> Row:
    """The verdict on one changed file."""
    row: Row = {"class": name, "model_type": str(raw.get("model_type")), "change": what}
    got = answer(raw)
    if got.refused:
        return row | {"verdict": "refused", "why": got.refused}
    expected = truth_of(raw, caches=caches and changes_caches(keys))
    word, why = verdict(expected, got)
    return row | {"verdict": word, "why": why, "defaults": got.defaults, "config": raw}


def defaults(only: set[str]) -> Iterator[Row]:
    """Every key of every small file removed, then set to null."""
    for name, raw in small_files(only):
        for place in places(raw):
            key = ".".join(place)
            yield compared(name, without(raw, place), f"{key} removed", list(place[-1:]))
            if place[-1] in _value(raw, place):
                yield compared(name, without(raw, place, None), f"{key} null", list(place[-1:]))


def _value(raw: Row, place: tuple[str, ...]) -> Row:
    section = raw
    for key in place[:-1]:
        section = section[key]
    return {key: value for key, value in section.items() if value is not None}


def mutate(number: int, seed: int = 20261130) -> Iterator[Row]:
    """So many files with one or two keys removed or changed.

    A figure that stays as it was is judged by the class; so is one in ten of those that moved.
    """
    draw = random.Random(seed)  # noqa: S311
    swept = [*small_files(set())]
    files = swept * 3 + [*published_files()]
    before: dict[int, Answer] = {}
    for _ in range(number):
        index = draw.randrange(len(files))
        name, raw = files[index]
        if index not in before:
            before[index] = answer(raw)
        yield _mutated(draw, name, raw, before[index])


def _mutated(draw: random.Random, name: str, raw: Row, before: Answer) -> Row:
    changes, file = [], raw
    for place in draw.sample(places(raw), k=draw.choice([1, 1, 2])):
        value = another(draw, _value(raw, place).get(place[-1]))
        # A head of an odd width cannot be rotated: the pass then broadcasts it.
        value = value * 2 if isinstance(value, int) and place[-1].endswith("head_dim") else value
        remove = value is None or draw.random() < 0.4
        file = without(file, place) if remove else without(file, place, value)
        changes.append((place, "removed" if remove else f"= {value}"))
    what = ", ".join(f"{'.'.join(place)} {how}"[:80] for place, how in changes)
    got = answer(file)
    row: Row = {"class": name, "model_type": str(raw.get("model_type")), "change": what}
    if got.refused:
        return row | {"verdict": "refused", "why": got.refused}
    same = (got.total, got.language, got.kept) == (before.total, before.language, before.kept)
    if not same and draw.random() < 0.9:
        return row | {"verdict": "moved", "why": ""}
    keys = [place[-1] for place, _ in changes]
    return compared(name, file, what, keys)
