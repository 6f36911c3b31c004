"""Real and reconstructed configs that lie beside a checkout; skipped where they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvplan.calc import footprint
from kvplan.hf import read_config, to_yaml
from kvplan.registry.names import read_model
from tests.hf.configs import REFERENCE, sizes


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference configs are not at hand")
def test_every_reference_config_is_equal(tmp_path: Path) -> None:
    """Every config with a row of figures, to the byte, and written and read back the same.

    A config without a row has nothing from outside to compare with.

    Two rules differ from the reference's own columns: an index key of DeepSeek sparse attention
    is 132 B where the file counts 256, and MiniMax-M3's is 256; recurrent state is fp32.
    """
    known = json.loads((REFERENCE / "kv-arithmetic.json").read_text())
    paths = {path.parent.name: path for path in REFERENCE.glob("hf-configs*/*/config.json")}
    wrong = []
    for name, row in known.items():
        path = paths[name]
        index = row["idx_per_tok"] * (1 if row["model_type"] == "minimax_m3" else 132 / 256)
        spec, provenance = read_config(path.parent)
        whole = footprint(spec, 1_000, kv_cache_dtype="bf16")
        found = (*sizes(spec), whole.cross_attention_bytes_per_sequence)
        fixed = row["win_cap"] + row["state_bytes_recfp32"]
        written = tmp_path / f"{name}.yaml"
        written.write_text(to_yaml(spec, provenance), encoding="utf-8")
        if found != (row["per_tok"] + index, fixed, row["cross"]) or read_model(written) != spec:
            wrong.append(name)
    assert wrong == []


NOT_COUNTED = {
    # Reference models that this count says it does not know, and the word that says why.
    "stepfun-ai__Step-3.7-Flash": "attention_other_setting",
    "stepfun-ai__Step-3.7-Flash-FP8": "attention_other_setting",
    "tencent__Tencent-Hunyuan-Large": "use_cla",
}


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference beside the checkout")
def test_totals_of_the_reference_are_met_exactly() -> None:
    totals = json.loads((REFERENCE / "param-counts.json").read_text())
    for folder in sorted(REFERENCE.glob("hf-configs*/*")):
        expected = totals.get(folder.name)
        if expected is None or not (folder / "config.json").is_file():
            continue
        spec = read_config(folder)[0]
        if folder.name in NOT_COUNTED:
            assert spec.parameters is None
            assert NOT_COUNTED[folder.name] in spec.not_counted[0]
            continue
        assert spec.parameters is not None, folder.name
        language = expected.get("language_total", expected["total"])
        if language == expected["total"]:  # of a class without towers, or of none that has them
            assert expected["total"] in (spec.parameters.of_language, spec.parameters.total)
        else:
            assert spec.parameters.total == expected["total"], folder.name
            assert spec.parameters.of_language == language, folder.name
        if expected.get("active_incl_embeddings") is not None:
            assert spec.parameters.active == expected["active_incl_embeddings"], folder.name
