"""Layers as a spec writes them: in runs, or as the smallest pattern of named groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import F, S, mixed, spec_of

GEMMA = {"model_type": "gemma2", "sliding_window": 100}


@pytest.mark.parametrize(
    ("types", "groups", "pattern"),
    [
        ([S, S, S], [(3, None)], ()),
        ([S, S, F], [(2, None), (1, None)], ()),
        ([S, F, S, F], [(None, "sliding"), (None, "full")], ("sliding", "full")),
        ([S, F, S], [(None, "sliding"), (None, "full")], ("sliding", "full")),
        ([S, S, F, S, S], [(None, "sliding"), (None, "full")], ("sliding*2", "full")),
        ([F, S, F, F], [(None, "full"), (None, "sliding")], ("full", "sliding", "full")),
        (
            [F, S, F, F, F],
            [(None, "full"), (None, "sliding")],
            ("full", "sliding", "full*2"),
        ),
    ],
)
def test_groups_and_pattern(
    tmp_path: Path,
    types: list[str],
    groups: list[tuple[int | None, str | None]],
    pattern: tuple[str, ...],
) -> None:
    spec = spec_of(tmp_path, {**GEMMA, **mixed(*types)})
    assert [(group.layers, group.name) for group in spec.groups] == groups
    assert spec.pattern == pattern
    assert spec.total_layers == len(types)


def test_unlike_layers_of_one_kind_have_names_of_their_own(tmp_path: Path) -> None:
    """Nemotron-NAS: 8 heads over groups of 4 and of 8, none at all, and 4 again."""
    attention: list[dict[str, Any]] = [
        {"n_heads_in_group": 4},
        {"n_heads_in_group": 8},
        {"no_op": True},
        {"n_heads_in_group": 4},
        {"n_heads_in_group": 8},
    ]
    config = {
        "model_type": "nemotron-nas",
        "num_hidden_layers": 5,
        "hidden_size": 64,
        "num_attention_heads": 8,
        "block_configs": [{"attention": entry} for entry in attention],
    }
    spec = spec_of(tmp_path, config)
    assert [(group.name, len(group.caches)) for group in spec.groups] == [
        ("full", 1),
        ("full-2", 1),
        ("none", 0),
    ]
    assert spec.pattern == ("full", "full-2", "none")
