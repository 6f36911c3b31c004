"""The arguments of a version: the data file against the wheel's sources, where these are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvplan.engines.speculation import METHODS
from kvplan.engines.vllm.arguments import argument
from kvplan.engines.vllm.backend_names import BACKENDS
from kvplan.errors import RefusedError, UsageError
from tests.engines.vllm.write_arguments import TARGET, document

WHEEL = Path(__file__).parents[4] / "src" / "vllm" / "vllm"
"""Beside this repository, the unpacked wheel of ``pip download --no-deps vllm==0.33.0``."""


@pytest.mark.skipif(not WHEEL.is_dir(), reason="vLLM's sources are not here")
def test_the_file_is_what_the_sources_say() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(WHEEL, "0.33.0")


@pytest.mark.skipif(not WHEEL.is_dir(), reason="vLLM's sources are not here")
def test_names_of_backends_and_methods_are_those_of_the_sources() -> None:
    registry = (WHEEL / "v1/attention/backends/registry.py").read_text(encoding="utf-8")
    enum = registry.split("class AttentionBackendEnum")[1].split("@classmethod")[0]
    for name in BACKENDS:
        assert f"\n    {name} = " in enum
    config = (WHEEL / "config/speculative.py").read_text(encoding="utf-8")
    for method in METHODS:
        assert f'"{method}"' in config


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("--tensor-parallel-size", "integer"),
        ("-tp", "integer"),
        ("--enable-expert-parallel", "flag"),
        ("--no-enable-prefix-caching", "flag"),
        ("--gpu-memory-utilization", "decimal"),
        ("--speculative-config", "json"),
        ("--limit-mm-per-prompt", "json"),
        ("--attention-config", "json"),
        ("--kv-cache-dtype", "word"),
        ("--quantization", "text"),
        ("--headless", "flag"),
        ("--middleware", "list"),
    ],
)
def test_what_an_argument_takes(name: str, kind: str) -> None:
    """As ``vllm serve --help=all`` groups them; read by hand from engine/arg_utils.py."""
    assert argument(name).kind == kind


@pytest.mark.parametrize("name", ["--tensor-parallel", "--no-tensor-parallel-size", "--ctx"])
def test_an_argument_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match=f"has no argument {name}"):
        argument(name)


def test_a_word_is_one_of_the_parsers_own() -> None:
    argument("--kv-cache-dtype").check("fp8_e5m2")
    with pytest.raises(UsageError, match="no --kv-cache-dtype q8_0"):
        argument("--kv-cache-dtype").check("q8_0")
