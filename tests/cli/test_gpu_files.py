"""A card that ``kvplan measure --save`` wrote down, as other commands read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import answer, kvplan

GPU = """\
gpus:
  - name: mine
    description: "my card"
    memory_bytes: 85017493504
    memory_basis: measured
    driver_memory_mib: null
    bandwidth_bytes_per_s: 3100000000000
    bf16_flops: 690000000000000
    fp8_flops: null
    link_bytes_per_s: null
    gpus_per_node: null
    sources: "kvplan measure"
    rates_basis: measured
    process_bytes: 1073741824
"""


def test_a_saved_gpu_is_planned_on(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text(GPU)
    result = kvplan("plan", "llama2-7b", "--gpu", str(file), "-tp", "1", "--ctx", "4k", "--json")
    document = json.loads(result.stdout)
    assert document["inputs"]["gpu"]["name"] == "mine"
    assert document["inputs"]["gpu"]["basis"] == "measured"
    # The process as measured, and 2% of the card for activations and graphs, as assumed.
    assert document["per_gpu"]["overhead_bytes"] == 1_073_741_824 + 85_017_493_504 * 2 // 100
    assert "1.00 GiB a process as measured on this card" in document["notes"][0]
    compared = answer("compare", "llama2-7b", "--gpu", str(file))
    assert compared["inputs"]["gpu"]["name"] == "mine"


def test_a_deployment_names_its_gpu_file_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text(GPU)
    deployments = tmp_path / "deploy.yaml"
    deployments.write_text(
        "deployments:\n  - {name: a, model: llama2-7b, gpu: gpu.yaml, context: 4k}\n"
    )
    assert kvplan("check", str(deployments)).returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "gpu.yaml: empty"),
        ("gpus: []\n", "has to list one GPU, not 0"),
        (GPU.replace("memory_bytes", "memory_byte"), "did you mean memory_bytes?"),
        (GPU.replace("85017493504", "lots"), "is not a number of bytes"),
        (GPU + GPU.removeprefix("gpus:\n"), "has to list one GPU, not 2"),
        (GPU + "    compute_capability: 9.0\n", "compute_capability: has to be text, not 9.0"),
        (GPU + '    compute_capability: "sm_90"\n', 'has to be like "9.0", not "sm_90"'),
        (GPU + '    gfx_target: "9.4"\n', 'has to be like "gfx942", not "9.4"'),
    ],
)
def test_wrong_gpu_files(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text(text)
    result = kvplan("plan", "llama2-7b", "--gpu", str(file))
    assert result.returncode == 2
    assert message in result.stderr
    assert str(file) in result.stderr


def test_a_gpu_file_that_is_not_there() -> None:
    result = kvplan("plan", "llama2-7b", "--gpu", "none.yaml")
    assert result.returncode == 2
    assert "none.yaml: cannot be read" in result.stderr
