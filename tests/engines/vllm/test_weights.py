"""Weights as vLLM lays them out, held against "Model loading took" of real servers.

model_loading.jsonl: a log line each, with its source. ``beside_gib`` is what 0.11 had on Hopper
with the weights: the published scales of mxfp4 beside the swizzled ones, a byte for 32 weights.
``unlike`` says what of a line is not known.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import kvplan
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.weights import loaded_weights
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.planner.served import serve
from kvplan.registry.names import load_gpu
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div
from kvplan.weights import StageLayers, WeightsLine
from tests.engines.vllm.releases import engine_of
from tests.hf.models import changed

GIB = 1 << 30
LOGS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "model_loading.jsonl").read_text("utf-8").splitlines()
]
KNOWN = [log for log in LOGS if "unlike" not in log]


def _compressed(format_name: str, weights: dict[str, Any], *ignore: str) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}
    return {
        "quant_method": "compressed-tensors",
        "format": format_name,
        "config_groups": {"group_0": group},
        "ignore": ["re:.*lm_head", *ignore],
    }


TOWER = (r"re:(model\.)?vision_tower.*", r"re:(model\.)?multi_modal_projector.*")
SCHEMES = {
    "fp8": _compressed(
        "float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, *TOWER
    ),
    "int4": _compressed(
        "pack-quantized",
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128},
        "re:.*mlp.gate$",
    ),
}
"""How the checkpoints of RedHatAI (FP8-dynamic) and cpatonn (GPTQ-4bit) are quantised."""


@cache
def spec_of(text: str) -> ModelSpec:
    log = json.loads(text)
    if "scheme" not in log:
        return kvplan.load(log["model"])
    config = changed(log["model"], log.get("changes", {}))
    config["quantization_config"] = SCHEMES[log["scheme"]]
    with TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return kvplan.load(folder)


def loaded_gib(log: dict[str, Any]) -> float:
    gpu = load_gpu(log["gpu"])
    spec = serve(
        spec_of(json.dumps(log)), "auto", log.get("quantization"), gpu.compute_capability
    ).spec
    settings = ServerSettings(
        engine=engine_of(log["version"]), limit_mm_per_prompt=log.get("limit_mm_per_prompt")
    )
    stage = StageLayers(spec.total_layers)
    lines = loaded_weights(spec, Layout(log["tensor"]), stage, settings, gpu)
    size_bytes: int = sum(line.size_bytes for line in lines)
    return size_bytes / GIB


def rounding(logged: str) -> float:
    decimals = len(logged.partition(".")[2])
    return 0.5 / float(10**decimals)


def is_near(log: dict[str, Any]) -> bool:
    logged = float(log["logged_gib"])
    weights = logged - float(log.get("beside_gib", 0))
    return abs(loaded_gib(log) - weights) <= 0.01 * logged + rounding(log["logged_gib"])


def test_nine_of_ten_logs_are_within_a_hundredth() -> None:
    near = [log for log in KNOWN if is_near(log)]
    assert len(KNOWN) >= 50
    assert len(near) >= 0.9 * len(KNOWN)


@pytest.mark.parametrize(
    "log",
    [
        log
        for log in KNOWN
        if load_gpu(log["gpu"]).compute_capability and log["gpu"] not in ("gb10", "h100")
    ],
    ids=lambda log: f"{log['model']} {log['gpu']} TP{log['tensor']}",
)
def test_what_nvidia_cards_logged_to_four_decimals(log: dict[str, Any]) -> None:
    """Within 0.15 %: gpt-oss on consumer cards has 18 MB more than on an A100, of no known use."""
    logged = float(log["logged_gib"])
    assert loaded_gib(log) == pytest.approx(logged, rel=0.0015)


@pytest.mark.parametrize("log", [log for log in LOGS if "unlike" in log], ids=str)
def test_what_is_not_known_of_a_log_is_more_than_the_weights(log: dict[str, Any]) -> None:
    logged = float(log["logged_gib"])
    assert 0.94 * logged < loaded_gib(log) < logged


# By hand, in bytes.

H100, B200, A100 = load_gpu("h100"), load_gpu("b200"), load_gpu("a100")
NO_SETTINGS = ServerSettings()


def lines(
    spec: ModelSpec, layout: Layout, gpu: Gpu = H100, stage: StageLayers | None = None
) -> dict[str, WeightsLine]:
    own = stage or StageLayers(spec.total_layers)
    return {line.part: line for line in loaded_weights(spec, layout, own, NO_SETTINGS, gpu)}


def test_a_vocabulary_is_padded_to_64_rows_before_it_is_divided() -> None:
    olmo = kvplan.load("olmo3.1-32b")  # 100,278 rows, padded to 100,288
    assert lines(olmo, Layout(4))["lm_head"].size_bytes == 100_288 * 5_120 * 2 // 4
    qwen = kvplan.load("qwen2.5-0.5b")  # 151,936 = 64 × 2,374
    assert lines(qwen, Layout(2))["embedding"].size_bytes == 151_936 * 896 * 2 // 2
    step = kvplan.load("step-3")  # 128,815 rows, padded to 128,832
    assert lines(step, Layout(8))["embedding"].size_bytes == 128_832 * 7_168 * 2 // 8


def test_the_last_stage_has_a_tied_embedding_once_more() -> None:
    spec = kvplan.load("qwen3-4b")  # tied, 151,936 × 2,560
    layout = Layout(1, pipeline=2)
    first = lines(spec, layout, stage=StageLayers(18, first=True, last=False))
    last = lines(spec, layout, stage=StageLayers(18, first=False, last=True))
    assert first["embedding"].size_bytes == last["embedding"].size_bytes == 151_936 * 2_560 * 2
    untied = kvplan.load("qwen3-8b")
    last = lines(untied, layout, stage=StageLayers(18, first=False, last=True))
    assert "embedding" not in last
    assert last["lm_head"].size_bytes == 151_936 * 4_096 * 2


@pytest.mark.parametrize(
    ("gpu", "tensor", "hidden", "width", "bias_bytes"),
    [("a100", 1, 3_072, 2_944, 2), ("b200", 1, 3_072, 2_944, 4), ("a100", 8, 3_072, 384, 2)],
)
def test_mxfp4_experts_are_padded_to_their_kernels_tiles(
    gpu: str, tensor: int, hidden: int, width: int, bias_bytes: int
) -> None:
    # 36 layers of 128 experts: gate and up, down; half a byte a weight and a byte for 32.
    weights = 36 * 128 * 3 * hidden * width
    biases = 36 * 128 * (2 * width + hidden) * bias_bytes
    spec = kvplan.load("gpt-oss-120b")
    routed = lines(spec, Layout(tensor), load_gpu(gpu))["routed_experts"]
    assert routed.size_bytes == weights // 2 + weights // 32 + biases


def test_on_hopper_the_scales_of_mxfp4_are_padded_and_the_weights_are_not() -> None:
    weights = 36 * 128 * 3 * 2_880 * 2_880
    scales = 36 * 128 * (5_888 * 90 + 3_072 * 90)  # rows in 256: 5,760 and 2,880
    biases = 36 * 128 * (2 * 2_880 + 2_880) * 4
    routed = lines(kvplan.load("gpt-oss-120b"), Layout(1))["routed_experts"]
    assert routed.size_bytes == weights // 2 + scales + biases


def test_mla_keeps_a_16_bit_copy_of_a_quantised_kv_b_proj() -> None:
    # DeepSeek-V3 over 8: 61 layers, 16 heads, 128 + 128 by 512.
    absorbed = lines(kvplan.load("deepseek-v3"), Layout(8))["absorbed"]
    assert absorbed.size_bytes == 61 * 16 * 256 * 512 * 2
    assert "absorbed" not in lines(kvplan.load("deepseek-v2-lite"), Layout(1))


def test_below_fp8_a_scale_is_one_for_128_weights_of_a_column() -> None:
    spec = kvplan.load("qwen3-32b-fp8")
    native, marlin = lines(spec, Layout(1)), lines(spec, Layout(1), A100)
    weights = sum(
        row.elements for row in spec.weights if row.part == "dense_mlp" and row.dtype == "fp8"
    )
    assert marlin["dense_mlp"].size_bytes == weights + ceil_div(weights, 128) * 2
    assert native["dense_mlp"].size_bytes < marlin["dense_mlp"].size_bytes


@pytest.mark.parametrize(
    ("name", "positions", "width", "size_bytes"),
    [
        ("llama3.1-8b", 131_072, 128, 2),
        ("gpt-oss-20b", 131_072, 64, 4),  # fp32
        ("glm-4.5", 131_072, 64, 2),  # half of 128
        ("qwen3.6-35b-a3b", 4 * 262_144, 64, 2),  # M-RoPE, a quarter of 256
        ("gemma3-27b", 9 * 131_072, 128, 2),  # local, and global times the factor 8
        ("deepseek-v2-lite", 163_840, 64, 2),
    ],
)
def test_tables_of_rotary_positions(name: str, positions: int, width: int, size_bytes: int) -> None:
    assert (
        lines(kvplan.load(name), Layout(1))["tables"].size_bytes == positions * width * size_bytes
    )


def test_a_model_without_rotary_positions_has_no_table() -> None:
    assert "tables" not in lines(kvplan.load("jamba-1.5-mini"), Layout(1))


def test_towers_are_divided_but_where_transformers_runs_them() -> None:
    gemma4 = lines(kvplan.load("gemma4-26b-a4b"), Layout(4))["vision"]
    gemma3 = lines(kvplan.load("gemma3-27b"), Layout(4))["vision"]
    assert (gemma4.shared_by, gemma3.shared_by) == (1, 4)


def test_a_tower_that_no_request_uses_is_not_loaded() -> None:
    spec = kvplan.load("gemma3-27b")
    stage = StageLayers(spec.total_layers)
    settings = ServerSettings(limit_mm_per_prompt='{"image": 0}')
    parts = {line.part for line in loaded_weights(spec, Layout(1), stage, settings, H100)}
    assert "vision" not in parts


def test_the_first_stage_has_the_layers_without_experts() -> None:
    # DeepSeek-V3 has 3 of them before 58 with experts; stages of 31 and 30.
    spec = kvplan.load("deepseek-v3")
    layout = Layout(8, pipeline=2)
    whole = lines(spec, Layout(8))
    first = lines(spec, layout, stage=StageLayers(31, first=True, last=False))
    last = lines(spec, layout, stage=StageLayers(30, first=False, last=True))
    routed = whole["routed_experts"].size_bytes
    assert first["routed_experts"].size_bytes == ceil_div(routed * 28, 58)
    assert last["routed_experts"].size_bytes == ceil_div(routed * 30, 58)
    assert first["dense_mlp"].size_bytes == whole["dense_mlp"].size_bytes
    assert last["dense_mlp"].size_bytes == 0
    assert first["norm"].size_bytes == ceil_div(whole["norm"].size_bytes * 31, 61)


def test_shared_experts_are_whole_where_tokens_are_divided() -> None:
    spec = kvplan.load("deepseek-v3")
    own = lines(spec, Layout(2, data=4, expert_parallel=True))["shared_experts"]
    assert own.shared_by == 1
    assert lines(spec, Layout(8))["shared_experts"].shared_by == 8


def test_fp8_experts_are_padded_to_whole_blocks() -> None:
    # Qwen3-30B-A3B: width 768 over 4 is 192, two blocks of 128.
    spec = kvplan.load("qwen3-30b-a3b-fp8")
    routed = lines(spec, Layout(4))["routed_experts"].size_bytes
    weights = 48 * 128 * 3 * 2_048 * 256
    assert weights < routed < 1.001 * weights


def test_nvfp4_experts_on_blackwell_are_padded_to_64_and_256() -> None:
    # GLM-5: width 2,048 over 64 is 32, padded to 64; hidden 6,144 is 24 × 256.
    spec = kvplan.load("glm-5-nvfp4")
    layers = 75
    weights = layers * 256 * 3 * 6_144 * 64
    routed = lines(spec, Layout(64), B200)["routed_experts"].size_bytes
    assert routed == pytest.approx(weights // 2 + weights // 16, rel=0.001)


def test_the_engine_none_is_as_it_was() -> None:
    spec = kvplan.load("gpt-oss-120b")
    plan = kvplan.plan("gpt-oss-120b", gpu="h100", tensor_parallel_size=1)
    parts = {line.part for line in plan.budget.weights}
    assert parts == set(spec.loaded_bytes)
