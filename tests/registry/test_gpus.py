"""GPUs by name, by memory alone, and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvplan
from tests.command_line import Run, answer

GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "memory_bytes"),
    [
        ("24GiB", 24 * GIB),
        ("121.69GiB", 130_663_642_562),  # 121.69 x 2^30, rounded down
        ("80GB", 80 * 10**9),
        ("24 GiB", 24 * GIB),
        ("24576MiB", 24 * GIB),
        ("0.5TiB", 512 * GIB),
        ("24g", 24 * GIB),
        ("25769803776", 24 * GIB),
    ],
)
def test_memory_alone_is_a_gpu(text: str, memory_bytes: int) -> None:
    gpu = kvplan.load_gpu(text)
    assert (gpu.name, gpu.memory_bytes, gpu.memory_basis) == (text, memory_bytes, "given")
    assert gpu.bandwidth_bytes_per_s is gpu.link_bytes_per_s is gpu.gpus_per_node is None


@pytest.mark.parametrize(
    "text",
    [
        "24",
        "0GiB",
        "1MB",
        "-24GiB",
        "9999999TiB",
        "24XiB",
        "GiB",
        "1..2GiB",
        "024GiB",
        " 24GiB",
        "24_000MiB",
        "+24GiB",
        "２４GiB",
    ],
)
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(kvplan.UsageError):
        kvplan.load_gpu(text)


def test_a_plan_says_what_it_does_not_know() -> None:
    document = answer("plan", "qwen3-8b", "--gpu", "24GiB", "--ctx", "8k")
    assert document["inputs"]["gpu"] == {
        "name": "24GiB",
        "memory_bytes": 24 * GIB,
        "basis": "assumed",
        "memory_basis": "given",
        "rates_basis": None,
    }
    decode = document["decode"]
    assert decode["step_seconds"] is decode["floor_seconds"] is decode["tokens_per_second"] is None
    document = answer("plan", "llama3-70b", "--gpu", "24GiB", "--ctx", "8k")
    assert any("nodes of 8 24GiB are assumed" in note for note in document["notes"])


def test_a_file_needs_no_more_than_name_and_memory(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "card.yaml"
    file.write_text("gpus:\n  - name: card-24gb\n    memory_bytes: 25769803776\n")
    assert kvplan.load_gpu(file).memory_bytes == 24 * GIB
    plan = run("plan", "qwen3-8b", "--gpu", "card.yaml", "--ctx", "8k", "--json").document
    by_memory = answer("plan", "qwen3-8b", "--gpu", "24GiB", "--ctx", "8k")
    assert plan["per_gpu"] == by_memory["per_gpu"]
    file.write_text("gpus:\n  - name: card-24gb\n    memory_bytes: 24GiB\n")
    assert kvplan.load_gpu(file).memory_bytes == 24 * GIB
    file.write_text("gpus:\n  - name: card-24gb\n")
    with pytest.raises(kvplan.SpecError, match=r"card.yaml:2: gpus.0.memory_bytes: is missing"):
        kvplan.load_gpu(file)


def test_a_card_with_a_known_name_is_found() -> None:
    """Torch logs: vllm-backport#34 (23.56 GiB), vllm#19445 (10.57), club of two Sparks (121.69)."""
    for name, gib in (("3090", 23.56), ("2080ti", 10.57), ("gb10", 121.69), ("a10", 22.05)):
        assert 0 <= gib * 1_024 - kvplan.load_gpu(name).memory_bytes / 2**20 < 1, name


@pytest.mark.parametrize("name", ["4060", "3070", "rtx-3070-8gb", "7900xtx", "5060ti"])
def test_no_card_with_another_number_is_offered(name: str) -> None:
    with pytest.raises(kvplan.UsageError, match="no GPU is called") as error:
        kvplan.load_gpu(name)
    assert error.value.hint is not None
    assert "24GiB" in error.value.hint
    assert "did you mean" not in error.value.hint


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(kvplan.UsageError) as error:
        kvplan.load_gpu("rtx3090ti")
    assert "rtx-3090-24gb" in str(error.value.hint)
    with pytest.raises(kvplan.UsageError) as error:
        kvplan.load_gpu("h100sxm")
    assert "h100-sxm-80gb" in str(error.value.hint)


@pytest.mark.parametrize("name", ["rtx-pro-6000", "RTX-PRO-6000-Blackwell", "rtx-pro-6000-96gb"])
def test_a_name_of_two_cards_asks_which(name: str) -> None:
    with pytest.raises(kvplan.UsageError, match="more than one card") as error:
        kvplan.load_gpu(name)
    for bandwidth in ("rtx-pro-6000-server-96gb (1,597 GB/s)", "workstation-96gb (1,792 GB/s)"):
        assert bandwidth in error.value.message


def test_the_two_cards_by_their_full_names() -> None:
    server = kvplan.load_gpu("rtx-pro-6000-server")
    assert server.bandwidth_bytes_per_s == 1_597 * 10**9
    workstation = kvplan.load_gpu("rtx-pro-6000-workstation")
    assert workstation.bandwidth_bytes_per_s == 1_792 * 10**9


@pytest.mark.parametrize("command", ["compare", "plan", "layouts"])
def test_memory_that_is_an_upper_bound_is_said_everywhere(command: str) -> None:
    warnings = answer(command, "llama3-8b", "--gpu", "a6000", "--ctx", "8k")["warnings"]
    assert sum("the driver's own figure" in text for text in warnings) == 1


def test_check_says_it_too(tmp_path: Path, run: Run) -> None:
    (tmp_path / "deploy.yaml").write_text(
        "deployments:\n  - {name: a, model: llama3-8b, gpu: a6000, gpus: 1, context: 8k}\n"
    )
    warnings = run("check", "deploy.yaml", "--json").document["warnings"]
    assert any("the driver's own figure" in text for text in warnings)


def test_memory_that_the_host_shares_is_not_all_there() -> None:
    """The recipes for two DGX Sparks start with 0.85 at most."""
    said = "no engine was seen to start with a utilisation of more than 0.85"
    document = answer("plan", "qwen3-8b", "--gpu", "gb10", "--ctx", "8k")
    assert any(said in text for text in document["warnings"])
    less = ("--gpu-memory-utilization", "0.8")
    document = answer("plan", "qwen3-8b", "--gpu", "gb10", "--ctx", "8k", *less)
    assert not any(said in text for text in document["warnings"])
