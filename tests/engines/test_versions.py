"""Which text is which engine and version."""

from __future__ import annotations

import pytest

from kvplan.engines.versions import engine_version
from kvplan.errors import RefusedError, UsageError


@pytest.mark.parametrize(
    ("text", "full_name"),
    [
        ("none", "none"),
        ("vllm", "vllm@0.33.0"),
        ("VLLM", "vllm@0.33.0"),
        ("vLLM@0.33", "vllm@0.33.0"),
        ("vllm@0.33.0", "vllm@0.33.0"),
        ("vllm@v0.33.0", "vllm@0.33.0"),
    ],
)
def test_a_version_is_named_as_far_as_it_has_to_be(text: str, full_name: str) -> None:
    assert engine_version(text).full_name == full_name


@pytest.mark.parametrize("text", ["vllm@0.12.1", "vllm@0.33.1", "vllm@0.34", "vllm@3", "vllm@0.3"])
def test_rules_that_are_not_known_are_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(RefusedError, match="are not known") as refused:
        engine_version(text)
    assert "vllm@0.33.0" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("vlm", "did you mean vllm"),
        ("", "one of: none, vllm@0.33.0"),
        ("sglang", "one of: none"),
        ("none@1", "write none"),
        ("vllm@", "write vllm@0.33.0"),
        ("vllm@new", "write vllm@0.33.0"),
        ("vllm@0..3", "write vllm@0.33.0"),
        ("vllm@" + "9" * 5_000, "write vllm@0.33.0"),
        ("vllm@٣", "write vllm@0.33.0"),
    ],
)
def test_what_names_no_engine_is_a_usage_error(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        engine_version(text)
    assert hint in (error.value.hint or "")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.12", "0.12.0"),
        ("0.20", "0.20.2"),
        ("0.20.0", "0.20.0"),
        ("0.10.1", "0.10.1.1"),
        ("0.9", "0.9.2"),
        ("0.25", "0.25.1"),
        ("0.33", "0.33.0"),
    ],
)
def test_a_row_of_several_releases_means_the_newest_of_those_named(text: str, version: str) -> None:
    assert engine_version(f"vllm@{text}").version == version


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("0.8.5", "vllm@0.9.1"),
        ("0.25.2", "vllm@0.25.1"),
        ("0.12.7", "vllm@0.12.0"),
        ("0.34", "vllm@0.33.0"),
    ],
)
def test_a_release_that_is_not_known_is_refused_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(RefusedError, match="are not known") as refused:
        engine_version(f"vllm@{text}")
    assert f"the nearest is {nearest};" in (refused.value.hint or "")
    assert "vllm@0.33.0, vllm@0.9.1 to 0.32.0" in (refused.value.hint or "")
