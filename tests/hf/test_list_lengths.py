"""Lists with an entry for every layer, in every family: too short, too long, and empty."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError
from tests.hf.configs import spec_of
from tests.hf.models import MODELS, spelt_out

Place = tuple[str, ...]

BY_NUMBER = {"local_layer_ids", "target_layer_ids"}
"""Numbers of layers, of which there may be any count."""
PERIODS = {"sliding_window_pattern"}
"""Letters of a period, which is repeated over the layers (Exaone4Config, transformers 5.24.0)."""


def lists(raw: dict[str, Any], place: Place = ()) -> Iterator[tuple[Place, list[Any] | str]]:
    """Every list, and text of one letter each, with its place in the file."""
    for key, value in raw.items():
        if isinstance(value, dict) and "rope" not in key and "quantization" not in key:
            yield from lists(value, (*place, key))
        elif isinstance(value, list) or (isinstance(value, str) and key.endswith("pattern")):
            yield (*place, key), value


def layer_lists() -> dict[tuple[str, str], tuple[str, Place]]:
    """For each model type and key whose list has an entry a layer: a model and the place."""
    found: dict[tuple[str, str], tuple[str, Place]] = {}
    for name, model in MODELS.items():
        raw = spelt_out(model["config"])
        for place, value in lists(raw):
            section = raw
            for key in place[:-1]:
                section = section[key]
            counts = [section.get(key, raw.get(key)) for key in ("num_hidden_layers", "n_layer")]
            if len(value) >= 3 and len(value) in counts:
                found.setdefault((str(raw.get("model_type")), place[-1]), (name, place))
    return found


LISTS = layer_lists()
OTHER = BY_NUMBER | PERIODS


def with_list(name: str, place: Place, change: str) -> tuple[dict[str, Any], int, int]:
    """The model's file with the list changed, and both lengths."""
    raw = copy.deepcopy(spelt_out(MODELS[name]["config"]))
    section = raw
    for key in place[:-1]:
        section = section[key]
    old = section[place[-1]]
    new = {"shorter": old[:-1], "longer": old + old[-1:], "empty": old[:0]}[change]
    section[place[-1]] = new
    return raw, len(new), len(old)


def test_there_are_families_to_try() -> None:
    assert len(LISTS) > 80
    assert {"layer_types", "attn_type_list", "mlp_layer_types", "indexer_types"} <= {
        key for _, key in LISTS
    }


@pytest.mark.parametrize("change", ["shorter", "longer", "empty"])
@pytest.mark.parametrize("case", LISTS, ids="-".join)
def test_a_list_of_another_length_is_a_contradiction(
    tmp_path: Path, case: tuple[str, str], change: str
) -> None:
    if case[1] in OTHER:
        pytest.skip("not a list with an entry a layer")
    name, place = LISTS[case]
    raw, new, old = with_list(name, place, change)
    with pytest.raises(RefusedError) as caught:
        spec_of(tmp_path, raw)
    line = caught.value.message
    assert "\n" not in line
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)}
    assert {new, old} <= numbers, line


def test_draft_layers_at_the_end_of_a_list_are_no_contradiction(tmp_path: Path) -> None:
    """DeepSeek-V4-Flash: 43 layers and the window of one draft layer, which may be left out."""
    raw = spelt_out(MODELS["deepseek-ai/DeepSeek-V4-Flash"]["config"])
    raw["num_nextn_predict_layers"] = 1
    assert len(raw["compress_ratios"]) == raw["num_hidden_layers"] + 1
    whole = spec_of(tmp_path, raw)
    saved = {**raw, "compress_ratios": raw["compress_ratios"][:43]}
    assert spec_of(tmp_path, saved).groups == whole.groups
    for length in (42, 45):
        wrong = {**raw, "compress_ratios": (raw["compress_ratios"] + [0])[:length]}
        with pytest.raises(RefusedError, match=f"{length} entries for 43 layers"):
            spec_of(tmp_path, wrong)
