"""config.json from huggingface.co, fetched by huggingface_hub; a stand-in for it here."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from kvplan import hf
from kvplan.errors import UsageError
from tests.hf.configs import LLAMA, write


class _EntryNotFoundError(Exception):
    pass


class _LocalEntryNotFoundError(FileNotFoundError, _EntryNotFoundError):
    """Of huggingface_hub 2.4.0: neither in the cache nor could the hub be asked."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, str | None]]:
    """A stand-in for huggingface_hub that has config.json and nothing else."""
    asked: list[tuple[str, str, str | None]] = []

    def hf_hub_download(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if repository == "nobody/nothing":
            raise OSError("no such repository\nwith a second line")
        if file != "config.json":
            offline = repository in ("org/offline", "org/remembered")
            raise (_LocalEntryNotFoundError if offline else _EntryNotFoundError)(file)
        return str(write(tmp_path, LLAMA) / file)

    package = types.ModuleType("huggingface_hub")
    errors = types.ModuleType("huggingface_hub.errors")

    def try_to_load_from_cache(repository: str, file: str, *, revision: str | None) -> object:
        del file, revision
        return object() if repository == "org/remembered" else None

    package.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    package.try_to_load_from_cache = try_to_load_from_cache  # type: ignore[attr-defined]
    errors.EntryNotFoundError = _EntryNotFoundError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


def test_only_small_files_are_fetched(hub: list[tuple[str, str, str | None]]) -> None:
    path = hf.fetched_config("org/model@abc123")
    assert hub == [
        ("org/model", "config.json", "abc123"),
        ("org/model", "hf_quant_config.json", "abc123"),
        ("org/model", "quantize_config.json", "abc123"),
        ("org/model", "quant_config.json", "abc123"),
    ]
    spec, _ = hf.read_config(path, repository="org/model@abc123")
    assert spec.name == "org/model"
    assert "org/model@abc123" in spec.source


@pytest.mark.usefixtures("hub")
def test_what_the_hub_could_not_be_asked_for_is_not_absent() -> None:
    assert hf.fetched_config("org/remembered").name == "config.json"
    with pytest.raises(UsageError, match="or what belongs to it, could not be fetched"):
        hf.fetched_config("org/offline")


@pytest.mark.parametrize("name", ["nobody/nothing", "no-slash", "a/b/c", "../x/y"])
def test_what_cannot_be_fetched_is_said_in_one_line(
    hub: list[tuple[str, str, str | None]], name: str
) -> None:
    with pytest.raises(UsageError) as caught:
        hf.fetched_config(name)
    assert "\n" not in caught.value.message
    assert all(repository == "nobody/nothing" for repository, _, _ in hub)


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError) as caught:
        hf.fetched_config("org/model")
    assert "kvplan[hub]" in str(caught.value.hint)
