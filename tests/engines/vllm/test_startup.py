"""What vLLM sets aside before its first block, held against what real servers logged.

startup.jsonl: a server each, with what it was started with, "Available KV cache memory" and where
the log is; where it tells them apart, the peak of activations and what is not torch's too. Weights
are kvplan's own, so the range is that of a plan from model, GPU and flags.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import kvplan
from kvplan.engines.base import MemoryLine, total
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.activations import indexed_bytes
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.startup import (
    charges_of,
    graph_count,
    startup,
)
from kvplan.parallel import Layout
from kvplan.registry.names import load_gpu
from kvplan.units import GIB, MIB
from kvplan.weights import StageLayers
from tests.engines.vllm.test_weights import loaded_gib, spec_of

LOGS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "startup.jsonl").read_text("utf-8").splitlines()
]
_SPEC = ("model", "changes", "scheme")
_FLAGS = ("max_num_seqs", "max_num_batched_tokens", "limit_mm_per_prompt")
WITH_FLAGS, WITHOUT_FLAGS = True, False


def lines_of(log: dict[str, Any], version: str | None, *, flags: bool) -> tuple[MemoryLine, ...]:
    spec = spec_of(json.dumps({key: log[key] for key in _SPEC if key in log}))
    given = {key: log[key] for key in _FLAGS if flags and key in log}
    return startup(
        spec,
        Layout(tensor=log["tensor"]),
        StageLayers(spec.total_layers),
        ServerSettings(engine="vllm", **given),
        load_gpu(log["gpu"]),
        log["context_tokens"],
        charges_of(version),
    )


def _release(log: dict[str, Any]) -> tuple[int, ...]:
    """Its numbers: 0.92 is used by default since 0.20.0 (config/cache.py); empty where not told."""
    return tuple(int(part) for part in str(log["version"]).split(".") if part.isdigit())


def kv_gib(log: dict[str, Any], version: str | None, *, flags: bool) -> tuple[float, float, float]:
    """The figure, its low and its high."""
    utilization = log.get("util") or ("0.9" if () < _release(log) < (0, 20) else "0.92")
    room = Vllm().allowed_bytes(load_gpu(log["gpu"]), float(utilization)) / GIB - loaded_gib(log)
    size, low, high = total(lines_of(log, version, flags=flags))
    return room - size / GIB, room - high / GIB, room - low / GIB


def held(log: dict[str, Any], version: str | None, *, flags: bool) -> bool:
    _, low, high = kv_gib(log, version, flags=flags)
    return low <= float(log["available_gib"]) <= high


@pytest.mark.parametrize("half", [0, 1])
def test_the_range_holds_four_of_five_logs_by_their_own_release(half: int) -> None:
    logs = LOGS[half::2]
    assert len(logs) >= 30
    assert sum(held(log, log["version"], flags=WITH_FLAGS) for log in logs) >= 0.8 * len(logs)


def test_the_range_holds_four_of_five_logs_whose_flags_nobody_gave() -> None:
    """By the rules of the newest release, as a plan for ``--engine vllm`` has them."""
    assert sum(held(log, None, flags=WITHOUT_FLAGS) for log in LOGS) >= 0.8 * len(LOGS)


def nvidia(log: dict[str, Any]) -> bool:
    return load_gpu(log["gpu"]).compute_capability is not None and log["gpu"] != "gb10"


def test_the_figure_is_in_the_middle_of_what_nvidia_cards_logged() -> None:
    errors, widths = [], []
    for log in filter(nvidia, LOGS):
        figure, low, high = kv_gib(log, log["version"], flags=WITH_FLAGS)
        errors.append(figure - float(log["available_gib"]))
        widths.append(high - low)
    assert len(errors) >= 25
    assert abs(median(errors)) < 0.15
    assert median(widths) < 1.5


@pytest.mark.parametrize(
    "log",
    [log for log in LOGS if "activation_gib" in log and "mistral" not in log["model"]],
    ids=lambda log: f"{log['model']} TP{log['tensor']}",
)
def test_activations_where_logs_tell_them_apart(log: dict[str, Any]) -> None:
    """Mistral Small took 2.12 GiB of 4.82: what it sampled with is not known."""
    lines = {line.name: line for line in lines_of(log, log["version"], flags=WITH_FLAGS)}
    logged = log["activation_gib"] * GIB
    assert lines["activations"].low_bytes <= logged <= lines["activations"].high_bytes
    beside = lines["buffers"].high_bytes + lines["nccl"].high_bytes
    assert log["non_torch_gib"] * GIB <= beside


# By hand.

LLAMA = kvplan.load("llama3.1-8b")
H100 = load_gpu("h100")
ONE = Layout()


def named(
    settings: ServerSettings, layout: Layout = ONE, *, last: bool = True
) -> dict[str, MemoryLine]:
    stage = StageLayers(32, last=last)
    lines = startup(LLAMA, layout, stage, settings, H100, 131_072)
    return {line.name: line for line in lines}


def test_activations_of_llama_by_hand() -> None:
    """8,192 tokens of 3 × 14,336 + 2 × 4,096 elements, or 1,024 × 128,256 logits of 12 bytes."""
    settings = ServerSettings(engine="vllm")
    assert named(settings)["activations"].size_bytes == 1_024 * 128_256 * 12
    first = named(settings, Layout(pipeline=2), last=False)["activations"]
    assert first.size_bytes == 8_192 * (3 * 14_336 + 2 * 4_096) * 2


def test_index_keys_of_a_prefill_are_those_of_vllms_own_comment() -> None:
    """v1/attention/backends/mla/indexer.py: "40 * 163840 * 132 = 865075200 bytes"."""
    assert indexed_bytes(163_840) == 865_075_200


def test_counts_for_penalties_are_on_the_last_stage() -> None:
    settings = ServerSettings(engine="vllm", max_num_seqs=64)
    assert named(settings)["buffers"].size_bytes == 64 * 128_256 * 4 + 130 * MIB
    assert named(settings, last=False)["buffers"].size_bytes == 130 * MIB


def test_graphs_are_as_many_as_vllm_logs() -> None:
    """PIECEWISE=51 (largest=512), FULL=35 (largest=256); 35 and 19 of 128 sequences."""
    assert graph_count(H100, 8_192, 256) == 51 + 35
    assert graph_count(H100, 2_048, 128) == 35 + 19
    assert named(ServerSettings(engine="vllm", enforce_eager=True))["cuda graphs"].high_bytes == 0


def test_one_gpu_has_nothing_of_nccl_and_no_process_is_charged() -> None:
    lines = named(ServerSettings(engine="vllm"))
    assert lines["nccl"].high_bytes == lines["process"].high_bytes == 0
    assert named(ServerSettings(engine="vllm"), Layout(tensor=2))["nccl"].size_bytes == 150 * MIB
