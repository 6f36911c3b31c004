"""What an engine is told to load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kvplan.errors import UsageError
from kvplan.registry.checkpoints import checkpoint_of
from kvplan.registry.names import load


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-R1-0528"),
        ("deepseek-v3", "deepseek-ai/DeepSeek-V3"),
        # an alias of deepseek-v3, and another checkpoint with the same figures
        ("deepseek-r1", "deepseek-ai/DeepSeek-R1"),
        ("DeepSeek R1", "deepseek-ai/DeepSeek-R1"),
        ("llama3.3", "meta-llama/Llama-3.3-70B-Instruct"),
        ("https://huggingface.co/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
    ],
)
def test_a_name_is_the_id_that_is_spelt_like_it(text: str, name: str) -> None:
    assert checkpoint_of(text, load(text)).name == name


def test_an_id_has_no_others_and_a_name_has() -> None:
    assert not checkpoint_of("deepseek-ai/DeepSeek-V3", load("deepseek-v3")).others
    assert "deepseek-ai/DeepSeek-R1" in checkpoint_of("deepseek-v3", load("deepseek-v3")).others


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is its folder; a description is none."""
    monkeypatch.chdir(tmp_path)
    spec = load("gpt2")
    (tmp_path / "mine").mkdir()
    assert checkpoint_of("./mine", spec).name == "mine"
    assert checkpoint_of("mine/config.json", spec).name == "mine"
    assert checkpoint_of("~/x/config.json", spec).name == str(Path("~/x").expanduser())
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(UsageError, match=r"mine\.yaml describes a model"):
        checkpoint_of("./mine.yaml", replace(spec, name="own", aliases=()))
