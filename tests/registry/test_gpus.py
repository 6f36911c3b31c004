"""GPUs by name, by memory alone, and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvplan
from kvplan.registry.names import gpu_entries
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
    """Logs: vllm-backport#34 (23.56 GiB), vllm#19445 (10.57), two Sparks (121.69), deviceQuery."""
    for name, gib in (("3090", 23.56), ("2080ti", 10.57), ("gb10", 121.69), ("a10", 21.9878)):
        assert 0 <= gib * 1_024 - kvplan.load_gpu(name).memory_bytes / 2**20 < 1, name


@pytest.mark.parametrize(
    "name", ["4050", "3070", "rtx-3070-8gb", "7800xt", "1080ti", "b30", "h10", "foo"]
)
def test_no_card_with_another_number_is_offered(name: str) -> None:
    with pytest.raises(kvplan.UsageError, match="no GPU is called") as error:
        kvplan.load_gpu(name)
    assert error.value.hint is not None
    assert "24GiB" in error.value.hint
    assert "did you mean" not in error.value.hint


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        ("rtx3090ti", "rtx-3090-24gb"),
        ("h100 nvl", "h100-sxm-80gb, h100-pcie-80gb"),
        ("mi300", "mi300x-192gb"),
        ("NVIDIA GeForce RTX 4060 Ti", "rtx-4060-ti-16gb"),  # there is one of 8 GB
        ("NVIDIA GeForce RTX 4080 SUPER", "rtx-4080-16gb"),
        ("p100", "p100-pcie-16gb"),
    ],
)
def test_another_card_is_answered_with_the_nearest(name: str, offered: str) -> None:
    with pytest.raises(kvplan.UsageError, match="no GPU is called") as error:
        kvplan.load_gpu(name)
    assert f"did you mean {offered}?" in str(error.value.hint)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        # as nvidia-smi prints them
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("NVIDIA H200", "h200-sxm-141gb"),
        ("NVIDIA H800", "h800-sxm-80gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA A800-SXM4-80GB", "a800-sxm-80gb"),
        ("NVIDIA A10", "a10-24gb"),
        ("NVIDIA L20", "l20-48gb"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("NVIDIA B300 SXM6 AC", "b300-sxm-288gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm-32gb"),
        ("Tesla P100-PCIE-16GB", "p100-pcie-16gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090-24gb"),
        ("NVIDIA GeForce RTX 5070 Ti", "rtx-5070-ti-16gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada-48gb"),
        ("NVIDIA RTX PRO 5000 Blackwell", "rtx-pro-5000-48gb"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server-96gb"),
        # as people write them
        ("H100 SXM", "h100-sxm-80gb"),
        ("h100sxm5", "h100-sxm-80gb"),
        ("a100-40g", "a100-sxm-40gb"),
        ("a100 40 GB pcie", "a100-pcie-40gb"),
        ("RTX 4070Ti Super", "rtx-4070-ti-super-16gb"),
        ("RX 7900 XTX", "rx-7900-xtx-24gb"),
        ("AMD Instinct MI210", "mi210-64gb"),
        ("TPU v6e", "tpu-v6e-32gb"),
    ],
)
def test_a_card_as_the_driver_or_people_write_it(name: str, card: str) -> None:
    gpu = kvplan.load_gpu(name)
    assert gpu.name == card
    assert gpu.name_note == f"{name!r} is read as {card}"


@pytest.mark.parametrize(
    ("name", "memory_mib"),
    [
        # nvidia-smi, deviceQuery, nvbench and torch logs; HIP, SYCL, Metal and XLA for the others
        ("rtx-4060-ti-16gb", 16_722_821_120 / 2**20),
        ("rtx-5060-ti-16gb", 15_841),
        ("rtx-5070-ti", 16_303),
        ("rtx-4080", 16_049),
        ("rtx-3080", 9_987),
        ("l20", 46_068),
        ("h800", 81_559),
        ("p100-16gb", 17_066_885_120 / 2**20),
        ("rtx-pro-4000", 24_467),
        ("rtx-pro-5000-blackwell", 47.23 * 1024),
        ("a30", 24_060),
        ("a5000", 25_402_343_424 / 2**20),
        ("7900xtx", 25_753_026_560 / 2**20),
        ("r9700", 34_208_743_424 / 2**20),
        ("mi210", 65_520),
        ("mi250x", 68_702_699_520 / 2**20),
        ("b70", 32_656),
        ("m4-max-128gb", 110_100),
        ("m2-max-64gb", 51_539.61 * 10**6 / 2**20),
        ("tpu-v5e", 15.75 * 1024),
        ("tpu-v6e", 31.25 * 1024),
        ("tpu7x", 94.75 * 1024),
    ],
)
def test_memory_is_what_logs_show_in_whole_mebibytes(name: str, memory_mib: float) -> None:
    assert kvplan.load_gpu(name).memory_bytes == int(memory_mib) * 2**20


@pytest.mark.parametrize(
    ("name", "megahertz", "bits"),
    # clock and width of the memory in deviceQuery and nvbench logs, two transfers a cycle
    [
        ("3090", 9_751, 384),
        ("3080", 9_501, 320),
        ("3060", 7_501, 192),
        ("2080ti", 7_000, 352),
        ("4060-ti-16gb", 9_001, 128),
        ("5060-ti-16gb", 14_001, 128),
        ("a10", 6_251, 384),
        ("a40", 7_251, 384),
        ("p100-16gb", 715, 4_096),
        ("mi210", 1_600, 4_096),
    ],
)
def test_bandwidth_is_clock_times_width(name: str, megahertz: int, bits: int) -> None:
    rate = kvplan.load_gpu(name).bandwidth_bytes_per_s
    assert rate is not None
    assert 0 <= 2 * megahertz * 10**6 * bits // 8 - rate < 10**9


@pytest.mark.parametrize(
    ("name", "gbit_per_s", "bits"),
    # what one pin transfers, and the width, as published of each card
    [
        ("5080", 30, 256),
        ("4080", 22.4, 256),
        ("4070-ti-super", 21, 256),
        ("a5000", 16, 384),
        ("rtx-6000-ada", 20, 384),
        ("l20", 18, 384),
        ("rtx-pro-4000", 28, 192),
        ("r9700", 20, 256),
        ("b70", 19, 256),
        ("strix-halo-128gb", 8, 256),
    ],
)
def test_bandwidth_is_the_rate_of_a_pin_times_width(
    name: str, gbit_per_s: float, bits: int
) -> None:
    assert kvplan.load_gpu(name).bandwidth_bytes_per_s == gbit_per_s * bits / 8 * 10**9


@pytest.mark.parametrize(
    ("name", "gigabytes_per_s"),
    [
        ("h200-nvl", 4_800),  # NVIDIA: 4.8 TB/s
        ("a800", 1_935),  # PCIe, as the A100 80 GB
        ("a800-sxm", 2_039),
        ("mi250x", 1_638),  # a die; AMD: 3.2 TB/s a card
        ("m2-max-64gb", 400),  # Apple
        ("m4-16gb", 120),
        ("trn2-lnc2", 2_900 / 4),  # AWS: 2.9 TB/s a chip
    ],
)
def test_bandwidth_is_the_makers(name: str, gigabytes_per_s: float) -> None:
    assert kvplan.load_gpu(name).bandwidth_bytes_per_s == gigabytes_per_s * 10**9


@pytest.mark.parametrize(
    ("name", "capability", "gfx_target"),
    [
        # developer.nvidia.com/cuda-gpus; rocm.docs.amd.com, gpu-arch-specs
        ("h200", "9.0", None),
        ("b200", "10.0", None),
        ("b300", "10.3", None),
        ("5080", "12.0", None),
        ("rtx-pro-4000", "12.0", None),
        ("gb10", "12.1", None),
        ("rtx-6000-ada", "8.9", None),
        ("a30", "8.0", None),
        ("3090", "8.6", None),
        ("t4", "7.5", None),
        ("2080ti", "7.5", None),
        ("v100", "7.0", None),
        ("p100-16gb", "6.0", None),
        ("mi210", None, "gfx90a"),
        ("mi250x", None, "gfx90a"),
        ("mi300x", None, "gfx942"),
        ("mi325x", None, "gfx942"),
        ("mi355x", None, "gfx950"),
        ("7900xtx", None, "gfx1100"),
        ("r9700", None, "gfx1201"),
        ("strix-halo-128gb", None, "gfx1151"),
        ("gaudi3", None, None),
        ("m4-16gb", None, None),
        ("tpu-v6e", None, None),
    ],
)
def test_what_kernels_are_built_for(
    name: str, capability: str | None, gfx_target: str | None
) -> None:
    gpu = kvplan.load_gpu(name)
    assert (gpu.compute_capability, gpu.gfx_target) == (capability, gfx_target)


def test_the_share_of_a_strix_halo_is_asked_for() -> None:
    """63,720 MiB in a HIP log of the default, half of 128 GB; other machines have other shares."""
    assert kvplan.load_gpu("radeon-8060s-128gb").memory_bytes == 63_720 << 20
    with pytest.raises(kvplan.UsageError) as error:
        kvplan.load_gpu("strix-halo")
    assert "did you mean strix-halo-128gb?" in str(error.value.hint)


def test_the_names_of_every_entry_are_found_without_parsing_all() -> None:
    assert list(gpu_entries()) == [(gpu.name, *gpu.aliases) for gpu in kvplan.gpus()]
    for gpu in kvplan.gpus():
        assert kvplan.load_gpu(gpu.name) == gpu


def test_a_number_that_yaml_reads_as_one_is_to_be_quoted(tmp_path: Path, run: Run) -> None:
    (tmp_path / "deploy.yaml").write_text(
        "deployments:\n  - {name: a, model: qwen3-8b, gpu: 3090, gpus: 1, context: 8k}\n"
    )
    result = run("check", "deploy.yaml")
    assert result.returncode == 2
    assert "gpu: has to be text, not 3090: put it in quotes" in " ".join(result.stdout.split())


@pytest.mark.parametrize("memory", ["24GiB", "24 GiB", "25.769803776GB"])
def test_memory_alone_goes_wherever_a_card_goes(memory: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "deploy.yaml").write_text(
        "deployments:\n"
        f"  - {{name: a, model: qwen3-8b, gpu: {memory}, gpus: 1, context: 8k, overhead: 1GiB}}\n"
    )
    assert run("check", "deploy.yaml").returncode == 0
    common = ("qwen3-8b", "--gpu", memory, "--ctx", "8k", "--json")
    for command in (("plan",), ("compare",), ("layouts", "--gpus", "1")):
        document = run(command[0], *common, *command[1:]).document
        assert document["inputs"]["gpu"]["memory_bytes"] == 24 * GIB


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
