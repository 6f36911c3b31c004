"""Numbers in YAML: the one spelling of the command line, or refused with key and line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import kvplan
from kvplan.checks.deployments import Deployment, Expectations, Stated
from kvplan.gpu import Gpu
from tests.command_line import Run

NULLS = ("null", "~")
# PyYAML reads the first five as 8, 1000, 16, 1 and 90.
MISSPELT = [
    *("010", "1_000", "0x10", "0b1", "1:30", "0o17", "1e1", "1E6", "+8", "-0", "８", "٨", ".5"),
    *("5.", ".inf", "-.inf", ".nan", "yes", "on", "true", "1,000", "''", "'\t8'", "[]", "{}"),
    *("'１'", "-1", "0.0001", "9" * 400, "''", ""),
]
DEPLOYMENT = "deployments:\n  - name: a\n    model: gpt2\n    gpu: h100\n"
GPU = "gpus:\n  - name: mine\n    memory_bytes: 24GiB\n"
SPEC = """\
name: mine
source: notes
dtype: bf16
groups:
  - kind: full_attention
    num_attention_heads: 8
    num_key_value_heads: 2
    head_dim: 64
"""
FRACTIONS = {
    *("gpu_memory_utilization", "most_utilization", "min_headroom_percent", "tolerance_percent")
}


def numbers(model: type[Any]) -> list[str]:
    """The keys that take a number."""
    hints = {name: str(hint) for name, hint in get_type_hints(model).items()}
    names = [each.name for each in fields(model)]
    return [name for name in names if "int" in hints[name] or "float" in hints[name]]


def misspelt(key: str) -> list[str]:
    right = {"0.0001"} if key in FRACTIONS else {"[]"} if key == "pipeline_partition" else set()
    if key == "context":
        right = {"-1"}  # vLLM's word for the longest that fits
    return [value for value in MISSPELT if value not in right]


def refused(run: Run, text: str, key: str, value: str) -> None:
    """The last line of the file is named, with its key."""
    Path("deploy.yaml").write_text(f"{text}{key}: {value}\n")
    result = run("check", "deploy.yaml", "--json")
    (finding,) = result.document["findings"]
    line = text.count("\n") + 1
    assert (result.returncode, finding["status"], finding["line"]) == (2, "error", line), value
    assert key in finding["message"], value


@pytest.mark.parametrize("key", numbers(Deployment))
def test_of_a_deployment(run: Run, key: str) -> None:
    for value in (*misspelt(key), *NULLS):
        refused(run, f"{DEPLOYMENT}    ", key, value)


@pytest.mark.parametrize("key", numbers(Expectations))
def test_of_what_is_expected(run: Run, key: str) -> None:
    for value in (*misspelt(key), *NULLS):
        refused(run, f"{DEPLOYMENT}    expect:\n      ", key, value)


@pytest.mark.parametrize("key", numbers(Stated))
def test_of_what_is_stated(run: Run, key: str) -> None:
    other = {"value": "tolerance_percent: 0", "tolerance_percent": "value: 8"}[key]
    stated = f"    expect:\n      stated:\n      - figure: gpus\n        {other}\n        "
    for value in (*misspelt(key), *NULLS):
        refused(run, DEPLOYMENT + stated, key, value)


@pytest.mark.parametrize("key", [key for key in numbers(Gpu) if key != "memory_bytes"])
def test_of_a_gpu(tmp_path: Path, key: str) -> None:
    """Null is a figure that nobody knows."""
    path = tmp_path / "gpu.yaml"
    for value in misspelt(key):
        path.write_text(f"{GPU}    {key}: {value}\n")
        with pytest.raises(kvplan.SpecError) as raised:
            kvplan.load_gpu(path)
        assert raised.value.message.startswith(f"{path}:4: gpus.0.{key}: "), value
    path.write_text(f"{GPU}    {key}: null\n")
    assert getattr(kvplan.load_gpu(path), key) is None


@pytest.mark.parametrize("key", ["process_bytes", "bandwidth_bytes_per_s", "link_bytes_per_s"])
def test_bytes_of_a_gpu_have_a_unit(tmp_path: Path, key: str) -> None:
    path = tmp_path / "gpu.yaml"
    path.write_text(f"{GPU}    {key}: 3350\n")
    with pytest.raises(kvplan.SpecError, match=f"gpu.yaml:4: gpus.0.{key}: '3350' would be 3350"):
        kvplan.load_gpu(path)
    path.write_text(f"{GPU}    {key}: 3350GB\n")
    assert getattr(kvplan.load_gpu(path), key) == 3_350_000_000_000


@pytest.mark.parametrize("key", ["native_context_tokens", "layers", "routed_experts"])
def test_of_a_model(tmp_path: Path, key: str) -> None:
    path = tmp_path / "my.yaml"
    for value in misspelt(key):
        path.write_text(f"{SPEC}{key}: {value}\n")
        with pytest.raises(kvplan.SpecError) as raised:
            kvplan.load(path)
        assert f"{path}:9: {key}: " in raised.value.message, value


@pytest.mark.parametrize(
    ("written", "context_tokens"),
    [("128k", 131_072), ('"128k"', 131_072), ("'131072'", 131_072), ("1.5k", 1_536), ("8", 8)],
)
def test_what_is_read_is_what_is_written(run: Run, written: str, context_tokens: int) -> None:
    Path("deploy.yaml").write_text(f"{DEPLOYMENT}    context: {written}\n")
    assert run("check", "deploy.yaml").returncode in (0, 1)
    ((_, plan),) = kvplan.check("deploy.yaml").plans.values()
    assert plan.context_tokens == context_tokens


@pytest.mark.parametrize("key", ["quantization", "draft_model", "kv_cache_dtype", "assume"])
def test_text_is_not_nothing_either(run: Run, key: str) -> None:
    for value in ("", "''", "' '", '"\\u3000"', *NULLS):
        refused(run, f"{DEPLOYMENT}    ", key, value)


def test_an_overhead_of_nothing_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(f"{DEPLOYMENT}    overhead: 0\n    context: 1k\n")
    ((_, plan),) = kvplan.check(path).plans.values()
    assert plan.budget.overhead_bytes == 0


def test_null_takes_a_default_away_and_nothing_else(run: Run) -> None:
    """Two GPUs are given for all; one deployment takes as many as it needs: one for gpt2."""
    defaults = "defaults: {gpus: 2, gpu: h100, expect: {max_gpus: 2}}\n"
    text = (
        f"{defaults}deployments: [{{name: a, model: gpt2, gpus: %s, expect: {{max_gpus: %s}}}}]\n"
    )
    Path("deploy.yaml").write_text(text % ("null", "null"))
    ((deployment, plan),) = kvplan.check("deploy.yaml").plans.values()
    assert (plan.layout.gpus, deployment.expect.max_gpus) == (1, None)
    Path("deploy.yaml").write_text((text % ("null", "1")).replace("gpus: 2, gpu:", "gpu:"))
    (finding,) = run("check", "deploy.yaml", "--json").document["findings"]
    assert "deployments.0.gpus: is null" in finding["message"]
