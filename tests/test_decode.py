"""Attention over the cache: right before it is timed, by every kernel and in either form of MLA."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import kvplan
from kvplan.errors import MeasurementError, RefusedError
from kvplan.measure import attention, isolation
from kvplan.measure.caches import CacheQuestion
from kvplan.measure.ceilings import Ceilings
from kvplan.measure.decode import (
    NAIVE,
    DecodeMeasurement,
    DecodeQuestion,
    Tell,
    measured_decode,
)
from kvplan.measure.device import opened
from kvplan.measure.isolation import decode_apart
from kvplan.measure.kernels import Setting, UnavailableError, prepared
from kvplan.measure.names import Kernel
from kvplan.measure.shapes import AttentionShape, attention_shapes

CPU = opened("cpu")
GIB = 2**30


def question(model: str, tokens: int, sequences: int = 1, **more: object) -> CacheQuestion:
    return CacheQuestion(kvplan.load(model), tokens, sequences, **more)  # type: ignore[arg-type]


def by_hand(query: Tensor, key: Tensor, value: Tensor, scale: float) -> list[float]:
    """One head's attention of one query, number by number."""
    scores = [
        scale * sum(q * k for q, k in zip(query.tolist(), row, strict=True)) for row in key.tolist()
    ]
    weights = [math.exp(score - max(scores)) for score in scores]
    return [
        sum(weight * row[column] for weight, row in zip(weights, value.tolist(), strict=True))
        / sum(weights)
        for column in range(value.shape[1])
    ]


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (5, 1)])
def test_attention_by_hand(heads: tuple[int, int]) -> None:
    torch.manual_seed(1)
    query_heads, kv_heads = heads
    query = torch.randn(2, query_heads, 8, dtype=torch.float64)
    key = torch.randn(2, kv_heads, 7, 8, dtype=torch.float64)
    value = torch.randn(2, kv_heads, 7, 5, dtype=torch.float64)
    group = query_heads // kv_heads
    expected = torch.tensor(
        [
            [
                by_hand(query[b, h], key[b, h // group], value[b, h // group], 0.3)
                for h in range(query_heads)
            ]
            for b in range(2)
        ],
        dtype=torch.float64,
    )
    for way in (attention.reference, attention.fused, attention.by_products):
        torch.testing.assert_close(way(query, key, value, 0.3), expected)


def rotated(vectors: Tensor, positions: Tensor) -> Tensor:
    """Rotary embedding (arXiv 2104.09864): pairs of elements turned by position x frequency."""
    half = vectors.shape[-1] // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = positions[:, None].double() * frequencies
    one, other = vectors[..., :half], vectors[..., half:]
    return torch.cat(
        [
            one * angles.cos() - other * angles.sin(),
            one * angles.sin() + other * angles.cos(),
        ],
        -1,
    )


def test_absorbed_is_naive_is_the_paper() -> None:
    """DeepSeek-V2's MLA (arXiv 2405.04434, equations 9 to 19) from hidden states, with RoPE."""
    torch.manual_seed(2)
    hidden, latent, rope, nope, width, heads, tokens = 40, 16, 8, 12, 10, 3, 33
    states = torch.randn(tokens, hidden, dtype=torch.float64)
    down, to_rope = (
        torch.randn(size, hidden, dtype=torch.float64) / hidden**0.5 for size in (latent, rope)
    )
    up_key = torch.randn(heads, nope, latent, dtype=torch.float64)
    up_value = torch.randn(heads, latent, width, dtype=torch.float64)
    to_query = torch.randn(heads, nope + rope, hidden, dtype=torch.float64) / hidden**0.5
    positions = torch.arange(tokens)
    scale = (nope + rope) ** -0.5

    latents = states @ down.T
    rotary_keys = rotated(states @ to_rope.T, positions)
    last = to_query @ states[-1]
    rotary_query = rotated(last[:, nope:], positions[-1:])
    expected = torch.stack(
        [
            torch.softmax(
                (latents @ up_key[head].T @ last[head, :nope] + rotary_keys @ rotary_query[head])
                * scale,
                0,
            )
            @ (latents @ up_value[head])
            for head in range(heads)
        ]
    )

    cache = torch.cat([latents, rotary_keys], -1).unsqueeze(0)
    query = torch.cat([last[:, :nope], rotary_query], -1).unsqueeze(0)
    naive = attention.naive(query, cache, up_key, up_value, scale)
    in_latent = attention.absorbed(query, up_key)
    out = attention.latent_by_products(in_latent, cache, latent, scale)
    absorbed = attention.projected(out, up_value)
    torch.testing.assert_close(naive[0], expected)
    torch.testing.assert_close(absorbed[0], expected)


def test_naive_in_parts_is_naive(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    query, cache = torch.randn(2, 6, 20), torch.randn(2, 9, 24)
    up_key, up_value = torch.randn(6, 12, 16), torch.randn(6, 16, 10)
    whole = attention.naive(query, cache, up_key, up_value, 0.2)
    monkeypatch.setattr(attention, "_MOST_ELEMENTS", 2 * 9 * 20 * 4 + 1)  # four heads at a time
    torch.testing.assert_close(attention.naive(query, cache, up_key, up_value, 0.2), whole)


def test_shapes_and_their_work() -> None:
    (gqa,) = attention_shapes(question("llama3-70b", 131_072))
    assert (gqa.layers, gqa.query_heads, gqa.kv_heads) == (80, 64, 8)
    assert gqa.bytes_per_sequence == 131_072 * 4_096
    assert gqa.flops_per_sequence == 8 * gqa.bytes_per_sequence  # 8 FLOP a byte: h100.md
    (mla,) = attention_shapes(question("deepseek-v3", 131_072))
    assert mla.bytes_per_sequence == 131_072 * 1_152
    assert mla.flops_per_sequence == 2 * 128 * 131_072 * (576 + 512)
    assert round(mla.flops_per_sequence / mla.bytes_per_sequence, 1) == 241.8  # on the ridge
    assert mla.scale == pytest.approx(192**-0.5)
    (rank,) = attention_shapes(question("deepseek-v3", 131_072, tensor_parallel=8))
    assert (rank.query_heads, rank.bytes_per_sequence) == (16, mla.bytes_per_sequence)


def test_windows_read_their_window() -> None:
    shapes = attention_shapes(question("gemma3-27b", 8_192))
    assert [(shape.label, shape.layers, shape.entries) for shape in shapes] == [
        ("SWA", 52, 1_024),
        ("GQA", 10, 8_192),
    ]


@pytest.mark.parametrize("model", ["mamba-2.8b", "deepseek-v3.2", "gemma3n-e4b"])
def test_what_is_no_plain_attention_is_refused(model: str) -> None:
    with pytest.raises(RefusedError, match="is not measured"):
        attention_shapes(question(model, 64))


@pytest.mark.parametrize("sequences", [1, 3])
@pytest.mark.parametrize("model", ["llama3-70b", "llama2-7b", "deepseek-v3", "mistral-7b"])
def test_a_step_on_the_cpu(model: str, sequences: int) -> None:
    asked = question(model, 40, sequences)
    found = measured_decode(CPU, DecodeQuestion(asked, Kernel.AUTO), lambda _: None)
    cache = kvplan.footprint(asked.spec, 40, sequences)
    assert found.read_bytes == cache.total_bytes
    for layer in found.layers:
        assert 0 < (layer.best.error or 0) < 3e-3
        assert all(time.reason is None for time in layer.tried)
        fastest = min(time.layer_seconds or math.inf for time in layer.tried)
        assert layer.layer_seconds == fastest > 0
    assert found.token_seconds == pytest.approx(
        sum(layer.shape.layers * layer.layer_seconds for layer in found.layers)
    )
    assert found.tokens_per_second == pytest.approx(sequences / found.token_seconds)
    latent = (found.absorbed_token_seconds, found.naive_token_seconds)
    if model == "deepseek-v3":
        assert (latent[0] or 0) > found.token_seconds
        assert latent[1]
    else:
        assert latent == (None, None)


def test_shares_of_the_roof() -> None:
    found = measured_decode(
        CPU, DecodeQuestion(question("deepseek-v3", 64), Kernel.TORCH), lambda _: None
    )
    (layer,) = found.layers
    read, flops = 64 * 1_152, 2 * 128 * 64 * 1_088
    slow_memory = Ceilings(read / layer.layer_seconds, 1e30)
    assert layer.roof_share(slow_memory) == pytest.approx(1.0)
    assert layer.bound_by(slow_memory) == "bytes"
    slow_products = Ceilings(1e30, 2 * flops / layer.layer_seconds)
    assert layer.roof_share(slow_products) == pytest.approx(0.5)
    assert layer.bound_by(slow_products) == "FLOPs"


def test_layers_that_do_not_fit_are_measured_in_part() -> None:
    asked = DecodeQuestion(question("llama3-70b", 64), Kernel.SDPA, max_bytes=64 * 4_096 + 5)
    (layer,) = measured_decode(CPU, asked, lambda _: None).layers
    assert layer.distinct == 1
    with pytest.raises(MeasurementError, match="not even one layer's cache"):
        measured_decode(CPU, replace(asked, max_bytes=1_000), lambda _: None)


@pytest.mark.parametrize(
    ("model", "kernel", "reason"),
    [
        ("deepseek-v3", Kernel.FLASHMLA, "flash_mla is not installed"),
        ("deepseek-v3", Kernel.FLASHINFER, "flashinfer.mla is not installed"),
        ("deepseek-v3", Kernel.SDPA, "sdpa is no kernel for MLA"),
        ("llama3-70b", Kernel.FLASHMLA, "flashmla is no kernel for GQA"),
    ],
)
def test_a_kernel_that_is_not_there(model: str, kernel: Kernel, reason: str) -> None:
    with pytest.raises(MeasurementError, match=reason):
        measured_decode(CPU, DecodeQuestion(question(model, 64), kernel), lambda _: None)


def latent_setting(tokens: int = 128, sequences: int = 2) -> tuple[Setting, Tensor, Tensor]:
    shape = AttentionShape("MLA", 1, 16, 1, 576, 512, tokens, 0.1, "bf16", (128, 64, 128))
    torch.manual_seed(4)
    query = torch.randn(sequences, 16, 576).bfloat16()
    cache = torch.randn(sequences, tokens, 576).bfloat16()
    return Setting(shape, sequences, torch.device("cpu")), query, cache


def paged(cache: Tensor, table: Tensor, length: int) -> Tensor:
    """The rows that a page table names, one sequence after the other."""
    return torch.stack([cache[pages.long()].flatten(0, 1)[:length] for pages in table])


def made_up_flash_mla() -> ModuleType:
    """FlashMLA's interface (flash_mla_interface.py of deepseek-ai/FlashMLA), in plain torch."""
    module = ModuleType("flash_mla")

    def get_mla_metadata(lengths: Tensor, heads_per_key: int, key_heads: int) -> tuple[str, str]:
        assert lengths.dtype is torch.int32
        assert (heads_per_key, key_heads) == (16, 1)
        return "tile scheduler", "splits"

    def flash_mla_with_kvcache(
        q: Tensor,
        k_cache: Tensor,
        block_table: Tensor,
        cache_seqlens: Tensor,
        head_dim_v: int,
        tile_scheduler_metadata: str,
        num_splits: str,
        softmax_scale: float,
    ) -> tuple[Tensor, None]:
        assert (tile_scheduler_metadata, num_splits) == ("tile scheduler", "splits")
        assert q.shape[1:] == (1, 16, 576)
        assert k_cache.shape[1:] == (64, 1, 576)
        rows = paged(k_cache.squeeze(2), block_table, int(cache_seqlens[0]))
        out = attention.latent_by_products(q.squeeze(1), rows, head_dim_v, softmax_scale)
        return out.unsqueeze(1), None

    module.get_mla_metadata = get_mla_metadata  # type: ignore[attr-defined]
    module.flash_mla_with_kvcache = flash_mla_with_kvcache  # type: ignore[attr-defined]
    return module


def made_up_flashinfer() -> ModuleType:
    """FlashInfer's BatchMLAPagedAttentionWrapper (flashinfer/mla.py), in plain torch."""
    module = ModuleType("flashinfer.mla")

    class BatchMLAPagedAttentionWrapper:
        def __init__(self, float_workspace_buffer: Tensor) -> None:
            assert float_workspace_buffer.dtype is torch.int8

        def plan(
            self,
            qo_indptr: Tensor,
            kv_indptr: Tensor,
            kv_indices: Tensor,
            kv_len_arr: Tensor,
            num_heads: int,
            head_dim_ckv: int,
            head_dim_kpe: int,
            page_size: int,
            causal: bool,
            sm_scale: float,
            q_data_type: torch.dtype,
            kv_data_type: torch.dtype,
        ) -> None:
            assert qo_indptr.tolist() == [0, 1, 2]
            assert (num_heads, head_dim_ckv, head_dim_kpe, page_size) == (16, 512, 64, 64)
            assert not causal
            assert q_data_type is kv_data_type is torch.bfloat16
            starts = kv_indptr.tolist()
            self.pages = [kv_indices[a:b] for a, b in pairwise(starts)]
            self.length, self.scale = int(kv_len_arr[0]), sm_scale

        def run(self, q_nope: Tensor, q_pe: Tensor, ckv_cache: Tensor, kpe_cache: Tensor) -> Tensor:
            rows = torch.cat([ckv_cache, kpe_cache], -1)
            rows = paged(rows, torch.stack(self.pages), self.length)
            query = torch.cat([q_nope, q_pe], -1)
            return attention.latent_by_products(query, rows, q_nope.shape[-1], self.scale)

    module.BatchMLAPagedAttentionWrapper = (  # type: ignore[attr-defined]
        BatchMLAPagedAttentionWrapper
    )
    return module


@pytest.mark.parametrize(
    ("kernel", "name", "module"),
    [
        (Kernel.FLASHMLA, "flash_mla", made_up_flash_mla()),
        (Kernel.FLASHINFER, "flashinfer.mla", made_up_flashinfer()),
    ],
)
def test_paged_kernels_are_asked_as_they_expect(
    kernel: Kernel, name: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvplan.measure.kernels.find_spec", lambda _: module)
    monkeypatch.setitem(sys.modules, name, module)
    setting, query, cache = latent_setting()
    out = prepared(kernel, setting)(query, (cache,))
    key = cache.unsqueeze(1)
    exact = attention.reference(query, key, key[..., :512], 0.1)
    assert attention.relative_error(out, exact) < 3e-3
    with pytest.raises(UnavailableError, match="pages of 64 tokens do not divide"):
        prepared(kernel, latent_setting(tokens=100)[0])


def test_a_kernel_that_is_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made_up_flash_mla()
    module.get_mla_metadata = lambda *_: ("", "")  # type: ignore[attr-defined]
    module.flash_mla_with_kvcache = (  # type: ignore[attr-defined]
        lambda q, *_, **__: (q[..., :512], None)
    )
    monkeypatch.setattr("kvplan.measure.kernels.find_spec", lambda _: module)
    monkeypatch.setitem(sys.modules, "flash_mla", module)
    monkeypatch.setattr(
        "kvplan.measure.decode.candidates", lambda *_: (Kernel.FLASHMLA, Kernel.TORCH)
    )
    asked = DecodeQuestion(question("deepseek-v3", 64), Kernel.AUTO)
    (layer,) = measured_decode(CPU, asked, lambda _: None).layers
    assert layer.best.kernel is Kernel.TORCH
    assert "wrong by" in (layer.tried[0].reason or "")
    assert layer.tried[0].layer_seconds is None


def test_a_dead_context_is_not_taken_for_a_kernel_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def illegal(*_: object) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand advice")

    asked = DecodeQuestion(question("llama2-7b", 16), Kernel.AUTO)
    monkeypatch.setattr(attention, "fused", illegal)
    (layer,) = measured_decode(CPU, asked, lambda _: None).layers
    assert layer.best.kernel is Kernel.TORCH
    assert layer.tried[0].reason == (
        "RuntimeError: CUDA error: an illegal memory access was encountered"
    )

    monkeypatch.setattr("kvplan.measure.device.CpuDevice.synchronize", illegal)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        measured_decode(CPU, asked, lambda _: None)


def test_a_child_process_measures_the_same() -> None:
    heard: list[str] = []
    asked = DecodeQuestion(question("llama2-7b", 32), Kernel.AUTO)
    found = decode_apart("cpu", asked, heard.append)
    assert found.read_bytes == 32 * 524_288
    assert heard == ["sdpa", "torch"]
    with pytest.raises(MeasurementError, match="flash_mla is not installed"):
        decode_apart("cpu", DecodeQuestion(question("deepseek-v3", 64), Kernel.FLASHMLA), print)


def test_a_kernel_that_kills_its_process_kills_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flash_mla.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    asked = DecodeQuestion(question("deepseek-v3", 64), Kernel.FLASHMLA)
    with pytest.raises(MeasurementError, match="the measuring process died: exit code 9"):
        decode_apart("cpu", asked, lambda _: None)


def test_a_death_in_the_naive_form_costs_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = DecodeQuestion(question("deepseek-v3", 32), Kernel.AUTO)
    real = isolation.attempt
    seen: list[str | None] = []

    def dying(
        device: str, tried: DecodeQuestion, tell: Tell
    ) -> tuple[DecodeMeasurement | str, str]:
        seen.append(tried.no_naive)
        return real(device, tried, tell) if tried.no_naive else ("exit code -6", NAIVE)

    monkeypatch.setattr(isolation, "attempt", dying)
    (layer,) = decode_apart("cpu", asked, lambda _: None).layers
    assert seen == [None, "took its process with it: exit code -6"]
    assert layer.best.kernel is Kernel.TORCH
    assert layer.latent
    assert layer.latent.naive_seconds is None
    assert layer.latent.naive_reason == seen[1]


def test_after_a_death_the_other_kernels_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = DecodeQuestion(question("llama2-7b", 16), Kernel.AUTO)
    whole = measured_decode(CPU, replace(asked, skip=(Kernel.SDPA,)), lambda _: None)
    skipped: list[tuple[Kernel, ...]] = []

    def dying(
        _device: str, tried: DecodeQuestion, _tell: object
    ) -> tuple[DecodeMeasurement | str, str]:
        skipped.append(tried.skip)
        return ("exit code -11", "sdpa") if not tried.skip else (whole, "torch")

    monkeypatch.setattr(isolation, "attempt", dying)
    (layer,) = decode_apart("cpu", asked, lambda _: None).layers
    assert skipped == [(), (Kernel.SDPA,)]
    assert layer.best.kernel is Kernel.TORCH
    assert layer.tried[-1].reason == "took its process with it: exit code -11"
