"""--from-hub: headers of the hub's files, fetched by huggingface_hub; a stand-in for it here."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kvplan import hf
from kvplan.errors import SpecError
from tests.hf.small_llama import CONFIG, PARAMETERS, llama, read


class _NotASafetensorsRepoError(Exception):
    pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for huggingface_hub; ``answer`` is its metadata, or the error that it raises."""
    given: dict[str, Any] = {}

    def get_safetensors_metadata(repository: str, *, revision: str | None) -> Any:
        given["asked"] = (repository, revision)
        if isinstance(given["answer"], Exception):
            raise given["answer"]
        return given["answer"]

    package = types.ModuleType("huggingface_hub")
    errors = types.ModuleType("huggingface_hub.errors")
    package.get_safetensors_metadata = get_safetensors_metadata  # type: ignore[attr-defined]
    errors.NotASafetensorsRepoError = _NotASafetensorsRepoError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return given


def metadata(files: dict[str, Any]) -> Any:
    """The same attributes as huggingface_hub's SafetensorsRepoMetadata."""
    return types.SimpleNamespace(
        weight_map={name: file for file, tensors in files.items() for name in tensors},
        files_metadata={
            file: types.SimpleNamespace(
                tensors={
                    name: types.SimpleNamespace(dtype=dtype, shape=list(shape))
                    for name, (dtype, shape) in tensors.items()
                }
            )
            for file, tensors in files.items()
        },
    )


def test_from_the_hub_headers_are_fetched_and_no_weights(
    hub: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    tensors = llama(dtype="F32")
    files = {"1.safetensors": dict(list(tensors.items())[:5]), "2.safetensors": tensors}
    files["2.safetensors"] = dict(list(tensors.items())[5:])
    hub["answer"] = metadata(files)
    spec, provenance = hf.read_config(tmp_path, repository="org/model@abc")
    assert hub["asked"] == ("org/model", "abc")
    assert spec.weights_bytes == 2 * PARAMETERS + 2 * 2 * (192 + 384)
    assert provenance["weights",] == "the headers of 2 safetensors files"
    hub["answer"] = metadata({"1.safetensors": {"x": ("F31", (1,))}})
    with pytest.raises(SpecError, match="'F31' is not a known dtype"):
        hf.read_config(tmp_path, repository="org/model")


@pytest.mark.parametrize(
    ("error", "notes"), [(_NotASafetensorsRepoError("none"), 0), (OSError("offline\nsecond"), 1)]
)
def test_without_headers_on_the_hub_config_json_is_counted(
    hub: dict[str, Any], tmp_path: Path, error: Exception, notes: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    hub["answer"] = error
    spec, _ = hf.read_config(tmp_path, repository="org/model")
    assert spec.weights_bytes == 2 * PARAMETERS
    assert len(spec.assumptions) == notes
    assert all("offline" in note and "\n" not in note for note in spec.assumptions)


def test_what_the_cache_of_the_hub_holds_is_not_fetched(
    hub: dict[str, Any], tmp_path: Path
) -> None:
    read(tmp_path, llama())
    assert hf.read_config(tmp_path, repository="org/model")[0].weights_bytes == 2 * PARAMETERS
    assert "asked" not in hub
