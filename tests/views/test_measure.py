"""What is answered of a card: the figures are those that an H100 gave on 2026-11-22."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvplan.measure.prediction import Prediction
from kvplan.measure.question import CacheLayout, CacheQuestion, Kernel, Request
from kvplan.measure.rates import Ceilings, DecodeMeasurement, KernelTime, LatentTimes, LayerTime
from kvplan.measure.results import CacheMeasurement, Maxima, Maximum, Measurement
from kvplan.measure.shapes import attention_shapes
from kvplan.render import render
from kvplan.views.measure import measure_report
from tests.measure.samples import H100, question

LLAMA = question("llama3-70b", 100_001)
DEEPSEEK = question("deepseek-v3", 131_072)


def cache(
    asked: CacheQuestion, layout: CacheLayout, planned: int, counters: tuple[int, int, int]
) -> CacheMeasurement:
    """A cache whose allocated, reserved and peak bytes exceed the plan by these."""
    allocated, reserved, peak = (planned + counter for counter in counters)
    return CacheMeasurement(
        question=asked,
        layout=layout,
        asked_tokens=asked.context_tokens,
        tensors=160,
        planned_bytes=planned,
        tensor_bytes=planned,
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        device_bytes=reserved,
        peak_bytes=peak,
        prediction=Prediction(allocated, reserved, peak),
        intact=True,
        left_bytes=0,
        allocate_seconds=0.1,
        write_seconds=0.02,
        read_seconds=0.03,
        free_seconds=0.1,
    )


CACHES = (
    cache(LLAMA, CacheLayout.ARITHMETIC, 32_768_327_680, (115_015_680, 115_015_680, 115_015_680)),
    cache(DEEPSEEK, CacheLayout.ARITHMETIC, 9_210_691_584, (0, 0, 0)),
)
GROWN = cache(
    replace(LLAMA, context_tokens=131_072),
    CacheLayout.GROWN,
    42_952_294_400,
    (0, 2_753_036_288, 41_120_432_128),
)


def step(asked: CacheQuestion, kernel: Kernel, seconds: float) -> DecodeMeasurement:
    (shape,) = attention_shapes(asked)
    latent = LatentTimes(1.21e-3 / 61, 1.34135 / 61) if shape.expanded else None
    time = KernelTime(kernel, seconds, 2.3e-3)
    absent = KernelTime(Kernel.FLASHMLA, reason="flash_mla is not installed", available=False)
    layer = LayerTime(shape, asked.sequences, shape.layers, time, (absent, time), latent)
    return DecodeMeasurement(asked, (layer,))


LONG = replace(LLAMA, context_tokens=131_072)
MEASURED = Measurement(
    card=H100,
    caches=CACHES,
    maxima=(
        Maxima(
            LLAMA,
            CacheLayout.ARITHMETIC,
            0,
            context=Maximum(257_024, 257_025, 257_024, 2, 84_221_624_320, 77_791_232),
            sequences=Maximum(2, 3, 2, 2, 65_536_655_360, 18_532_823_040),
        ),
    ),
    ceilings=Ceilings(3.129e12, 6.89e14),
    decode=(step(LONG, Kernel.SDPA, 179.8e-6), step(DEEPSEEK, Kernel.GLUON, 88.7e-6)),
    same_memory=(step(replace(DEEPSEEK, sequences=4), Kernel.GLUON, 317.2e-6),),
    seconds=0.49,
)
REQUEST = Request("cuda", (LLAMA, DEEPSEEK), find_max=True, decode=True)


def text(
    measurement: Measurement, monkeypatch: pytest.MonkeyPatch, columns: int | None = None
) -> str:
    monkeypatch.setenv("NO_COLOR", "1")
    return render(measure_report(REQUEST, measurement), "table", columns)


TABLES = """\
NVIDIA H100 80GB HBM3 agrees with the plan: 2 caches, 39.10 GiB, every counter to the byte.

NVIDIA H100 80GB HBM3
memory       79.18 GiB, 78.51 GiB free, 78.51 GiB can be taken
driver       580.159.04: 79.65 GiB, 79.18 GiB free before this process
one process  context 523.57 MiB, first kernels 91.55 MiB, matrix products 65.80 MiB
software     torch 2.11.0+cu130
checked      39.10 GiB in 0.49 s: allocated, written, read, given back
ceilings     reads 3,129 GB/s, matrix products 689 TFLOP/s

1 sequence each; counters as differences from the plan

 Cache                     Tokens       Planned B  Tensors     Allocated      Reserved        Device     Predicted  Verdict
 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
 llama3-70b, arithmetic   100,001  32,768,327,680       +0  +115,015,680  +115,015,680  +115,015,680  +115,015,680  proved
 deepseek-v3, arithmetic  131,072   9,210,691,584       +0            +0            +0            +0            +0  proved


One decode step of attention over the cache

 Cache                     Layers  Kernel  µs/layer  ms/token   GB/s  TFLOP/s  Bound by  Of roof    Error
 ────────────────────────────────────────────────────────────────────────────────────────────────────────
 llama3-70b, 1 × 131,072   80 GQA  sdpa       179.8     14.38  2,986     23.9  bytes         95%  2.3e-03
 deepseek-v3, 1 × 131,072  61 MLA  gluon       88.7      5.41  1,702      412  FLOPs         60%  2.3e-03
 deepseek-v3, 4 × 131,072  61 MLA  gluon      317.2     19.35  1,904      460  FLOPs         67%  2.3e-03


MLA a token, all layers: absorbed, and with the latent expanded at each step

 Model        Attention  + projections  = absorbed        Naive  Naive costs
 ───────────────────────────────────────────────────────────────────────────
 deepseek-v3    5.41 ms        1.21 ms     6.62 ms  1,341.35 ms         203×


A token against llama3-70b's; sequences and tokens/s in the same 40.00 GiB

 Model        Bytes read        Time  Sequences  Tokens/s  Tokens/s, ratio
 ─────────────────────────────────────────────────────────────────────────
 llama3-70b    40.00 GiB    14.38 ms          1        70               1×
 deepseek-v3  4.66× less  2.66× less          4       207            2.97×

"""


def words(text: str) -> list[list[str]]:
    """The words of each line: how wide a column is drawn is the affair of rich's version."""
    return [line.split() for line in text.splitlines() if line.strip(" ─")]


def test_the_tables_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words(text(replace(MEASURED, maxima=()), monkeypatch)) == words(TABLES)


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_it_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = text(replace(MEASURED, caches=(*CACHES, GROWN)), monkeypatch, columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "131,072+8" in shown
    assert ("+41,120,432,128" in shown) is (columns >= 200)
    assert ("Peak" in shown.split("not shown:")[0]) is (columns >= 200)


def test_the_json_of_a_card() -> None:
    report = measure_report(REQUEST, MEASURED)
    document: dict[str, Any] = json.loads(render(report, "json"))
    assert report.exit_code == 1  # the weights of the made-up limit did not fit
    first = document["caches"][0]
    assert first["differences"]["device_bytes"] == 115_015_680
    assert first["differences"]["predicted_device_bytes"] == 115_015_680
    assert first["proved"]
    limits = document["limits"][0]
    assert limits["max_context_tokens"] == 257_024
    assert limits["context_search"]["exact"]
    assert limits["context_search"]["allocations"] == 2
    layer = document["decode"][1]["layers"][0]
    assert (layer["kernel"], layer["bound_by"]) == ("gluon", "FLOPs")
    assert layer["roof_share"] == pytest.approx(0.597, abs=0.001)
    assert document["card"]["driver"]["total_bytes"] == 85_520_809_984
    assert document["decode"][1]["absorbed_token_seconds"] == pytest.approx(6.62e-3, rel=1e-3)


def test_exit_codes() -> None:
    sound = replace(MEASURED, maxima=())
    assert measure_report(REQUEST, sound).exit_code == 0
    wrong = replace(CACHES[0], device_bytes=1)
    report = measure_report(REQUEST, replace(sound, caches=(wrong,)))
    assert report.exit_code == 1
    assert "not every counter shows what was predicted" in report.warnings[-1]
    short = replace(CACHES[0], asked_tokens=200_000)
    assert measure_report(REQUEST, replace(sound, caches=(short,))).exit_code == 1
    open_question = replace(CACHES[0], prediction=None)
    assert measure_report(REQUEST, replace(sound, caches=(open_question,))).exit_code == 0
    assert measure_report(REQUEST, replace(sound, unfit=("a",))).exit_code == 1
    assert measure_report(REQUEST, replace(sound, failed=("b",))).exit_code == 4


def test_what_is_warned_of() -> None:
    driver = replace(H100.driver, others_bytes=5 * 2**30, other_processes=1)  # type: ignore[type-var]
    crowded = replace(H100, driver=driver, allocator_options=("max_split_size_mb:512",))
    sound = replace(MEASURED, maxima=())
    warnings = measure_report(REQUEST, replace(sound, card=crowded)).warnings
    assert "other processes (1) hold 5.00 GiB of this card" in warnings
    assert any("max_split_size_mb:512" in warning for warning in warnings)
    unseen = measure_report(REQUEST, replace(sound, card=replace(H100, driver=None))).warnings
    assert any("other processes are not seen" in warning for warning in unseen)
    assert not any("flashmla" in warning for warning in unseen)  # absent is no failure
