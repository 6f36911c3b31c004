"""More experts a token than a layer has, in every family that has any: refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError
from kvplan.hf import read_config
from tests.hf.configs import write
from tests.hf.models import MODELS, spec_of, spelt_out

KEYS = {
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk"),
    *("moe_top_k", "top_k_experts", "moe_k"),
}


def with_too_many(config: dict[str, Any]) -> bool:
    """Sets every such key to more experts than any model has; False where there is none."""
    found = False
    for key, value in config.items():
        if isinstance(value, dict):
            found |= with_too_many(value)
        elif key in KEYS and value:
            config[key] = [5_000] * len(value) if isinstance(value, list) else 5_000
            found = True
    return found


def mixtures() -> dict[str, dict[str, Any]]:
    configs = {name: copy.deepcopy(spelt_out(model["config"])) for name, model in MODELS.items()}
    return {name: config for name, config in configs.items() if with_too_many(config)}


@pytest.mark.parametrize(("name", "config"), mixtures().items())
def test_more_experts_than_there_are_is_refused(
    tmp_path: Path, name: str, config: dict[str, Any]
) -> None:
    """Where weights are counted; Doge's dense models have the key and no experts."""
    counted = spec_of(name).has_routed_experts
    if counted:
        with pytest.raises(RefusedError, match=r" is 5000, of |num_attention_heads is "):
            read_config(write(tmp_path, config))
    else:
        assert answered_or_refused(write(tmp_path, config))


def answered_or_refused(folder: Path) -> bool:
    """Whether it is read without its experts, or refused as well."""
    try:
        spec, _ = read_config(folder)
    except RefusedError:
        return True
    return not spec.has_routed_experts
