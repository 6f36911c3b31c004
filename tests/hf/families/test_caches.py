"""A small config.json of each kind of family is read to the byte, and written as it was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.hf import read_config, to_yaml
from kvplan.registry.names import read_model
from tests.hf.configs import sizes, spec_of, write
from tests.hf.families.full_attention import FULL_ATTENTION
from tests.hf.families.latent import LATENT
from tests.hf.families.states import STATES
from tests.hf.families.windows import WINDOWS

CONFIGS = [*FULL_ATTENTION, *WINDOWS, *LATENT, *STATES]


@pytest.mark.parametrize(
    ("config", "per_token", "fixed"),
    [row[1:] for row in CONFIGS],
    ids=[row[0] for row in CONFIGS],
)
def test_family_is_right_to_the_byte(
    tmp_path: Path, config: dict[str, Any], per_token: float, fixed: int
) -> None:
    """Each config gives the bytes that its figures multiply to."""
    assert sizes(spec_of(tmp_path, config)) == (per_token, fixed)


@pytest.mark.parametrize("config", [row[1] for row in CONFIGS], ids=[row[0] for row in CONFIGS])
def test_yaml_reads_back_to_the_same_spec(tmp_path: Path, config: dict[str, Any]) -> None:
    """What ``import`` writes is a spec file that means the same."""
    spec, provenance = read_config(write(tmp_path, config))
    path = tmp_path / "spec.yaml"
    path.write_text(to_yaml(spec, provenance), encoding="utf-8")
    assert read_model(path) == spec
