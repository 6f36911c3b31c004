"""What an import says beside the caches: provenance, dtype, draft layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import LLAMA, MLA, spec_of


@pytest.mark.parametrize(
    ("key", "value", "layers"),
    [
        ("num_nextn_predict_layers", 1, 1),
        ("num_nextn_predict_layers", 0, 0),
        ("num_nextn_predict_layers", None, 0),
    ],
)
def test_draft_layers_stay_out_of_the_model(
    tmp_path: Path, key: str, value: int | None, layers: int
) -> None:
    """MTP layers are a draft: not in the layer count, and none where the file says none."""
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 2, **MLA, key: value}
    spec = spec_of(tmp_path, config)
    assert (spec.total_layers, sum(group.layers or 0 for group in spec.draft)) == (2, layers)


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({"torch_dtype": "float16"}, "fp16"),
        ({"torch_dtype": None, "dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float32"}, "bf16"),
        ({"torch_dtype": None}, "bf16"),
    ],
)
def test_dtype(tmp_path: Path, keys: dict[str, Any], dtype: str) -> None:
    """fp32 files are served in bf16; a file without a dtype is, too, and every answer says so."""
    spec = spec_of(tmp_path, {**LLAMA, **keys})
    assert spec.dtype == dtype
    assert bool(spec.assumptions) == (
        keys.get("torch_dtype") == "float32" or not any(keys.values())
    )


def test_importing_loads_no_model_library() -> None:
    """Reading a config needs no transformers, no torch and no network."""
    code = (
        "import sys, kvplan.hf; "
        "print([m for m in ('torch', 'transformers', 'yaml', 'huggingface_hub') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
