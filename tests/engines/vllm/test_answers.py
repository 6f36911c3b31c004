"""What vLLM keeps, chooses and refuses, against its own answers.

``answers.jsonl`` has what vLLM 0.33.0's own code said of each model, tensor-parallel size and KV
dtype (no GPU was involved): caches with their layers, the bytes and tokens of a page and the
window, backends, block size, context, or the words with which it refused. The catalogue's models
are asked, and where the published config.json files are at hand, an import of these too.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.calc import pack
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.backends import backends
from kvplan.engines.vllm.caches import BlockSizes, layer_pages
from kvplan.engines.vllm.context import check_context, longest_context, served_context
from kvplan.engines.vllm.legality import check
from kvplan.engines.vllm.models import as_vllm_keeps
from kvplan.errors import KvplanError, RefusedError
from kvplan.gpu import Gpu
from kvplan.hf import read_config
from kvplan.parallel import Layout
from kvplan.registry.names import load_gpu
from kvplan.spec import ModelSpec
from tests.hf.configs import REFERENCE

CONFIGS = REFERENCE / "hf-configs"
_LINES = (Path(__file__).parent / "answers.jsonl").read_text(encoding="utf-8").splitlines()
ROWS = [json.loads(line) for line in _LINES]
ANSWERED = [row for row in ROWS if "refused" not in row]
REFUSED = [row for row in ROWS if "refused" in row]
H100 = Gpu(name="h100", memory_bytes=80 << 30, compute_capability="9.0")

Row = dict[str, Any]
SOURCES = ("catalogue", "folder")


def name_of(row: Row) -> str:
    layout = f"tp{row.get('tensor', 1)}-pp{row.get('pipeline', 1)}-dcp{row.get('context', 1)}"
    return f"{row['model']}-{layout}-{row['kv_cache_dtype']}-{row.get('capability', '')}"


def spec_of(row: Row, source: str) -> ModelSpec:
    if source == "catalogue":
        spec = kvplan.load(row["catalogue"])
    elif row["folder"] is None or not (CONFIGS / row["folder"]).is_dir():
        pytest.skip("the published config.json is not at hand")
    else:
        spec, _ = read_config(CONFIGS / row["folder"])
    return replace(spec, architecture=row.get("architecture", spec.architecture))


def layout_of(row: Row) -> Layout:
    return Layout(
        row.get("tensor", 1), pipeline=row.get("pipeline", 1), context=row.get("context", 1)
    )


def settings_of(row: Row) -> ServerSettings:
    return ServerSettings(
        engine="vllm",
        kv_cache_dtype=row["kv_cache_dtype"],
        enable_prefix_caching=row.get("prefix_caching", True),
    )


def gpu_of(row: Row) -> Gpu:
    return replace(H100, compute_capability=row["capability"])


def is_accepted(spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> bool:
    try:
        check(spec, layout, settings, gpu)
    except KvplanError:
        return False
    return True


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("row", ANSWERED, ids=name_of)
def test_what_vllm_keeps_and_chooses(row: Row, source: str) -> None:
    if row["kv_cache_dtype"].startswith("turboquant"):
        pytest.skip("kvplan has no format of TurboQuant")
    if source == "folder" and row.get("speculative"):
        pytest.skip("no key of this config.json names draft layers")
    spec, layout, settings = as_vllm_keeps(spec_of(row, source)), layout_of(row), settings_of(row)
    check(spec, layout, settings, gpu_of(row))
    chosen = backends(spec, layout, settings, gpu_of(row), row["kv_cache_dtype"])
    stored = "auto" if chosen.kv_cache_dtype == spec.dtype else chosen.kv_cache_dtype
    assert sorted({name for _, name in chosen.layers}) == row["backends"]
    # fp8 is fp8_e4m3 in vLLM: the same bytes under two names.
    assert stored.removesuffix("_e4m3") == row["stored"].removesuffix("_e4m3")
    assert chosen.kernels.packed is row["packed"]
    if not row["hybrid"]:
        assert chosen.kernels.preferred_tokens == row["block_size"]
    drafts = row.get("speculative", 0)
    caches = pack(spec, chosen.kv_cache_dtype, draft=bool(drafts))
    blocks = BlockSizes(attention_tokens=row["block_size"], speculative_tokens=drafts)
    kept = Counter(
        (page.kind, page.content_bytes * tokens // page.block_tokens, page.window_tokens)
        for _, page in layer_pages(caches, layout.tensor, blocks)
        for tokens in (page.block_tokens if page.kind == "state" else 4096,)
    )
    expected: Counter[tuple[str, int, int | None]] = Counter()
    for kind, layers, size, tokens, window in row["caches"]:
        expected[kind, size if kind == "state" else size * 4096 // tokens, window] += layers
    assert kept == expected


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "row",
    {row["model"]: row for row in ANSWERED if "max_model_len" in row}.values(),
    ids=lambda row: row["model"],
)
def test_the_context_that_vllm_derives(row: Row, source: str) -> None:
    assert served_context(spec_of(row, source)) == row["max_model_len"]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("row", REFUSED, ids=name_of)
def test_what_vllm_refuses_is_refused_in_its_words(row: Row, source: str) -> None:
    spec = spec_of(row, source)
    with pytest.raises(RefusedError) as refused:
        check(spec, layout_of(row), settings_of(row), H100)
    assert row["refused"] in refused.value.message
    assert not is_accepted(spec, layout_of(row), settings_of(row), H100)


def test_a_longer_context_than_the_config_derives_is_refused() -> None:
    """LongRoPE is served at its original length, and takes what is asked for (model.py:2652)."""
    phi = kvplan.load("phi-3-mini-128k")
    assert (served_context(phi), longest_context(phi)) == (4_096, 131_072)
    check_context(phi, 131_072)
    with pytest.raises(RefusedError, match=r"max_model_len \(131073\) is greater than the derived"):
        check_context(phi, 131_073)


def test_a_context_that_yarn_stretches_is_not_vllms() -> None:
    """It takes max_position_embeddings as stretched already (config/model.py:2619)."""
    qwen = replace(
        kvplan.load("qwen3-8b"), native_context_tokens=131_072, max_position_embeddings=32_768
    )
    assert served_context(qwen) == 32_768
    with pytest.raises(RefusedError, match=r"derived max_model_len \(32768\)"):
        check_context(qwen, 65_536)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(16, context=4), "exceeds the maximum supported value (2)"),
        (Layout(8, prefill=2), "PCP not supported"),
        (Layout(3), "attention heads (64) must be divisible by tensor parallel size (3)"),
    ],
)
def test_layouts_of_grouped_heads(layout: Layout, words: str) -> None:
    """Llama-3.1-70B has 64 heads and 8 KV heads (vLLM 0.33.0 config/model.py:1560-1610)."""
    with pytest.raises(RefusedError) as refused:
        check(kvplan.load("llama3.1-70b"), layout, ServerSettings(engine="vllm"), H100)
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("model", "layout", "accepted"),
    [
        # config/parallel.py:595: DCP is off, spans PCP, or spans all GPUs of both.
        ("deepseek-v3", Layout(4, prefill=2), True),
        ("deepseek-v3.2", Layout(4, prefill=2, context=2), True),
        ("deepseek-v3.2", Layout(4, prefill=2, context=8), True),
        ("deepseek-v3.2", Layout(4, prefill=2, context=4), False),
        # attention/mla_attention.py:690: PCP and DCP together for DeepSeek-V3.2's class alone.
        ("deepseek-v3", Layout(4, prefill=2, context=2), False),
        ("kimi-linear-48b-a3b", Layout(2, prefill=2), False),
        # kv_cache_interface.py:950: windows have no DCP.
        ("gpt-oss-120b", Layout(8, context=2), False),
        ("deepseek-v3", Layout(8, context=8), True),
        # registry.py: Gemma-3n does not implement SupportsPP.
        ("gemma3n-e4b", Layout(pipeline=2), False),
        ("gemma3-27b", Layout(pipeline=2), True),
    ],
)
def test_layouts_that_vllm_takes(model: str, layout: Layout, *, accepted: bool) -> None:
    # mla/flashmla_sparse.py:784: entries are divided in fp8_ds_mla alone, which fp8 is on Hopper.
    kv_cache_dtype = "fp8" if model == "deepseek-v3.2" else "auto"
    settings = ServerSettings(engine="vllm", kv_cache_dtype=kv_cache_dtype)
    assert is_accepted(kvplan.load(model), layout, settings, H100) is accepted


@pytest.mark.parametrize(
    ("model", "capability", "kv_cache_dtype", "expected"),
    [
        # platforms/cuda.py:81 and the classes' own conditions, read by hand.
        ("qwen3-8b", "8.9", "fp8", ("FLASHINFER", 16)),
        ("qwen3-8b", "12.0", "auto", ("FLASH_ATTN", 16)),
        ("stablelm-3b", "8.9", "fp8", ("TRITON_ATTN", 16)),
        ("phi-3-mini-128k", "10.0", "auto", ("FLASH_ATTN", 16)),
        ("gpt-oss-120b", "8.0", "auto", ("TRITON_ATTN", 16)),
        ("gemma3-4b", "10.0", "auto", ("TRITON_FLASHINFER", 64)),
        ("gemma4-31b", "10.0", "auto", ("TRITON_FLASHINFER", 64)),
        ("gemma4-e2b", "10.0", "auto", ("FLASHINFER", 16)),
        ("deepseek-v3", "12.0", "auto", ("TRITON_MLA", 16)),
        ("kimi-k2", "9.0", "fp8", ("FLASHMLA", 64)),
    ],
)
def test_backends_of_other_gpus(
    model: str, capability: str, kv_cache_dtype: str, expected: tuple[str, int]
) -> None:
    gpu = replace(H100, compute_capability=capability)
    spec = as_vllm_keeps(kvplan.load(model))
    chosen = backends(spec, Layout(), ServerSettings(engine="vllm"), gpu, kv_cache_dtype)
    assert {name for _, name in chosen.layers} == {expected[0]}
    assert chosen.kernels.preferred_tokens == expected[1]


def test_the_same_flag_stores_other_bytes_on_another_gpu() -> None:
    """656 B of fp8_ds_mla by FlashMLA on Hopper, plain fp8 by FlashInfer on Blackwell."""
    spec = as_vllm_keeps(kvplan.load("deepseek-v3.2"))
    stored = {
        capability: backends(
            spec,
            Layout(8),
            ServerSettings(engine="vllm"),
            replace(H100, compute_capability=capability),
            "fp8",
        ).kv_cache_dtype
        for capability in ("9.0", "10.0")
    }
    assert stored == {"9.0": "fp8_ds_mla", "10.0": "fp8"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # platforms/rocm.py:531, without VLLM_ROCM_USE_AITER.
        ("qwen3-8b", {"ROCM_ATTN"}),
        ("gpt-oss-120b", {"TRITON_ATTN"}),
        ("deepseek-v3", {"TRITON_MLA"}),
        ("deepseek-v3.2", {"ROCM_AITER_MLA_SPARSE", "DEEPSEEK_V32_INDEXER"}),
    ],
)
def test_backends_of_amds_gpus(model: str, expected: set[str]) -> None:
    spec, settings = as_vllm_keeps(kvplan.load(model)), ServerSettings(engine="vllm")
    chosen = backends(spec, Layout(), settings, load_gpu("mi300x"))
    assert {name for _, name in chosen.layers} == expected
    assert chosen.kernels.preferred_tokens == 16
    assert "VLLM_ROCM_USE_AITER" in chosen.assumptions[0]


def test_gpus_that_only_a_plugin_runs_on_are_refused() -> None:
    with pytest.raises(RefusedError, match="what a plugin does on tpu-v6e-32gb is not known"):
        backends(
            kvplan.load("qwen3-8b"), Layout(), ServerSettings(engine="vllm"), load_gpu("tpu-v6e")
        )


def test_a_gpu_without_a_compute_capability_is_said() -> None:
    gpu = replace(H100, compute_capability=None)
    chosen = backends(kvplan.load("qwen3-8b"), Layout(), ServerSettings(engine="vllm"), gpu)
    assert "states no compute_capability" in chosen.assumptions[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention_backend": "FLASHMLA"}, "Selected backend FLASHMLA is not valid"),
        ({"block_size": 24}, "block_size not supported"),
        ({"kv_cache_dtype": "float16"}, 'kv_cache_dtype="float16" is incompatible with'),
    ],
)
def test_options_that_vllm_refuses(options: dict[str, Any], words: str) -> None:
    settings = ServerSettings(engine="vllm", **options)
    with pytest.raises(KvplanError) as refused:
        check(kvplan.load("qwen3-8b"), Layout(), settings, H100)
    assert words in refused.value.message
