"""A measured card as an entry that ``--gpu FILE`` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import kvplan
from kvplan.measure.entry import card_memory, gpu_entry, gpu_yaml
from kvplan.measure.rates import Ceilings
from tests.measure.samples import H100


def test_a_saved_card_is_a_gpu(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text(gpu_yaml(gpu_entry(H100, Ceilings(3.1e12, 6.9e14), "2026-11-22")))
    gpu = kvplan.load_gpu(str(file))
    assert gpu.name == "nvidia-h100-80gb-hbm3-measured"
    assert (gpu.memory_bytes, gpu.memory_basis) == (85_017_493_504, "measured")
    assert (gpu.bandwidth_bytes_per_s, gpu.rates_basis) == (3_100_000_000_000, "measured")
    assert gpu.driver_memory_mib == 81_559
    assert gpu.process_bytes == 714_000_000
    assert gpu.compute_capability == "9.0"
    assert gpu.fp8_flops is None
    assert gpu.sources
    assert "2026-11-22 (torch 2.11.0+cu130, driver 580.159.04)" in gpu.sources


def test_what_was_not_measured_is_unknown() -> None:
    gpu = card_memory(replace(H100, driver=None, matmul_bytes=None))
    assert gpu.memory_bytes == 85_017_493_504
    assert (gpu.driver_memory_mib, gpu.process_bytes, gpu.bandwidth_bytes_per_s) == (None,) * 3
