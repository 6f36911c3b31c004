"""Caches allocated, written, searched and given back, on the CPU and on a card made up for it."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kvplan.planning import NothingFitsError
from strategies import specs

import kvplan
from kvplan.errors import KvplanError, MeasurementError, RefusedError, UsageError
from kvplan.kinds.mla import MLA
from kvplan.measure import caches as caching
from kvplan.measure.caches import CacheMeasurement, CacheQuestion, held, measured_caches
from kvplan.measure.card import Card, Driver, driver_facts, read_card
from kvplan.measure.ceilings import Ceilings, measured_ceilings
from kvplan.measure.device import (
    AllocatorSettings,
    Counters,
    CpuDevice,
    allocator_settings,
    opened,
)
from kvplan.measure.entry import gpu_entry, to_yaml
from kvplan.measure.layouts import CacheTensor, cache_tensors, planned_bytes
from kvplan.measure.names import CacheLayout
from kvplan.measure.prediction import Prediction
from kvplan.measure.search import MOST_ALLOCATIONS, longest_context, most_sequences
from kvplan.measure.session import Request, measure
from kvplan.spec import ModelSpec

MIB, GIB = 2**20, 2**30
SEGMENT = 2 * MIB
CPU = opened("cpu")


def question(model: str, tokens: int = 64, sequences: int = 1, **more: int) -> CacheQuestion:
    return CacheQuestion(kvplan.load(model), tokens, sequences, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layout", [CacheLayout.ARITHMETIC, CacheLayout.WHOLE, CacheLayout.SEQUENCES]
)
@settings(max_examples=40, deadline=None)
@given(spec=specs, tokens=st.integers(1, 3_000), sequences=st.integers(1, 3))
def test_tensors_hold_the_footprint(
    layout: CacheLayout, spec: ModelSpec, tokens: int, sequences: int
) -> None:
    cache = kvplan.footprint(spec, tokens, sequences)
    if not cache.total_bytes:
        return
    assert planned_bytes(cache_tensors(cache, layout)) == cache.total_bytes


def test_vllm_pages_are_whole() -> None:
    tensors = question("llama3-70b", 100_001).tensors(CacheLayout.VLLM)
    assert len(tensors) == 80
    assert tensors[0].shape == (6_251, 16, 4_096)  # 100,001 tokens in pages of 16
    latent = question("deepseek-v3", 100, 3, page_tokens=64).tensors(CacheLayout.VLLM)
    assert (len(latent), latent[0].shape) == (61, (6, 64, 1_152))


def test_tensor_parallel_ranks_keep_their_heads() -> None:
    split = question("llama3-70b", 64, tensor_parallel=8).tensors(CacheLayout.ARITHMETIC)
    assert split[0].shape == (1, 1, 64, 128)
    whole = question("deepseek-v3", 64, tensor_parallel=8).tensors(CacheLayout.ARITHMETIC)
    assert [tensor.shape for tensor in whole[:2]] == [(1, 1, 64, 512), (1, 1, 64, 64)]


def test_what_vllm_would_group_is_refused() -> None:
    for model in ("gemma3-27b", "deepseek-v3.2", "mamba-2.8b"):
        with pytest.raises(RefusedError, match="vLLM groups and pads"):
            question(model).tensors(CacheLayout.VLLM)


@pytest.mark.parametrize("layout", list(CacheLayout))
def test_a_model_without_caches_has_nothing_to_allocate(layout: CacheLayout) -> None:
    spec = kvplan.load("llama2-7b")
    without = replace(spec, groups=(replace(spec.groups[0], caches=()),))
    with pytest.raises(UsageError, match="there is nothing to allocate"):
        CacheQuestion(without, 64).tensors(layout)


def test_too_many_tensors_are_refused() -> None:
    with pytest.raises(UsageError, match="160,000 tensors are more than"):
        question("llama3-70b", 16, 1_000).tensors(CacheLayout.SEQUENCES)


@pytest.mark.parametrize("layout", list(CacheLayout))
@pytest.mark.parametrize("model", ["llama3-70b", "deepseek-v3", "deepseek-v4-pro", "gemma3-27b"])
def test_caches_on_the_cpu(model: str, layout: CacheLayout) -> None:
    asked = question(model, 100, 2)
    if layout is CacheLayout.VLLM and model in ("deepseek-v4-pro", "gemma3-27b"):
        return
    found = measured_caches(CPU, asked, layout)
    tokens = {CacheLayout.VLLM: 112, CacheLayout.GROWN: 108}.get(layout, 100)
    assert found.planned_bytes == kvplan.footprint(asked.spec, tokens, 2).total_bytes
    assert found.tensor_bytes == found.planned_bytes
    assert found.intact
    assert found.proved
    assert not found.shortened
    assert found.allocated_bytes is None
    assert found.predicted is None


@pytest.mark.parametrize("dtype", ["fp8", "q4_0", "nvfp4", "fp32"])
def test_packed_caches_hold_what_their_format_says(dtype: str) -> None:
    asked = replace(question("llama3-70b", 50), kv_cache_dtype=dtype)
    found = measured_caches(CPU, asked, CacheLayout.ARITHMETIC)
    bits = {"fp8": Fraction(8), "q4_0": Fraction(9, 2), "nvfp4": Fraction(9, 2)}
    assert found.tensor_bytes == 50 * 80 * 2 * 8 * 128 * bits.get(dtype, Fraction(32)) / 8


def test_as_far_as_it_goes() -> None:
    found = measured_caches(CPU, question("llama3-70b", 1_000), CacheLayout.ARITHMETIC, 100 * MIB)
    assert found.shortened
    assert found.question.context_tokens == 320  # 100 MiB at 327,680 B a token
    assert found.asked_tokens == 1_000
    with pytest.raises(NothingFitsError, match="not even a context of one token"):
        measured_caches(CPU, question("llama3-70b", 1_000), CacheLayout.ARITHMETIC, 1_000)


def test_what_was_overwritten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_first(tensors: list[torch.Tensor]) -> None:
        for index, tensor in enumerate(tensors):
            tensor.fill_(0)
            if index == 0:
                tensor.view(torch.uint8).fill_(1)

    assert measured_caches(CPU, question("llama2-7b"), CacheLayout.ARITHMETIC).intact
    monkeypatch.setattr(caching, "write", only_the_first)
    found = measured_caches(CPU, question("llama2-7b"), CacheLayout.ARITHMETIC)
    assert not found.intact
    assert not found.proved


@pytest.mark.parametrize("error", [RuntimeError("it broke"), KeyboardInterrupt()])
def test_memory_goes_back_after_an_error(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    real = torch.empty

    def breaking(*shape: object, **options: object) -> torch.Tensor:
        if len(made) == 5:
            raise error
        tensor = real(*shape, **options)  # type: ignore[call-overload]
        made.append(weakref.ref(tensor))
        return tensor  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "empty", breaking)
    with pytest.raises(type(error)):
        measured_caches(CPU, question("llama2-7b"), CacheLayout.ARITHMETIC)
    gc.collect()
    assert len(made) == 5
    assert all(tensor() is None for tensor in made)


def test_held_tensors_are_dropped() -> None:
    with held(CPU) as tensors:
        tensors.append(torch.empty(10))
        watched = weakref.ref(tensors[0])
    assert watched() is None


@dataclass
class MadeUpCard:
    """A card without memory: 2 MiB segments are counted, and refused beyond what it has.

    ``hidden_bytes`` is what it shows as free and does not give (or, negative, gives beyond).
    """

    capacity_bytes: int
    hidden_bytes: int = 0
    settings: AllocatorSettings = field(
        default_factory=lambda: AllocatorSettings("native", expandable=False, unknown=())
    )
    used_bytes: int = 0
    allocated_bytes: int = 0
    kind: str = "cuda"
    torch_device: torch.device = field(default_factory=lambda: torch.device("meta"))
    bounds: list[int | None] = field(default_factory=list)

    def free_bytes(self) -> int:
        return self.capacity_bytes - self.used_bytes

    def usable_bytes(self) -> int:
        return self.free_bytes()

    def counters(self) -> Counters:
        used = self.used_bytes
        return Counters(self.allocated_bytes, used, used, used)

    def synchronize(self) -> None:
        pass

    def release(self) -> None:
        self.used_bytes = self.allocated_bytes = 0

    def bound(self, max_bytes: int | None) -> None:
        self.bounds.append(max_bytes)

    def take(self, size: int) -> None:
        """A segment of its own; what is left of it is split off where it is over 1 MiB."""
        segment = -(-size // SEGMENT) * SEGMENT
        rounded = -(-size // 512) * 512
        self.used_bytes += segment
        self.allocated_bytes += rounded if segment - rounded > MIB else segment
        if self.used_bytes > self.capacity_bytes - self.hidden_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nand so on")


@pytest.fixture
def put_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[MadeUpCard], MadeUpCard]]:
    """Tensors of 10 MiB and more go on the card that is given, where they take no memory."""

    def put(card: MadeUpCard) -> MadeUpCard:
        def counted(device: MadeUpCard, tensor: CacheTensor) -> torch.Tensor:
            assert tensor.size_bytes >= 10 * MIB
            device.take(tensor.size_bytes)
            return torch.empty(tensor.shape, dtype=torch.uint8, device="meta")

        monkeypatch.setattr(caching, "_empty", counted)
        monkeypatch.setattr(caching, "write", lambda _: None)
        monkeypatch.setattr(caching, "holds", lambda *_: True)
        return card

    return put  # type: ignore[return-value]


def test_a_session_on_a_card(
    put_on: Callable[[MadeUpCard], MadeUpCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = put_on(MadeUpCard(80 * GIB))
    facts = replace(H100, total_bytes=81 * GIB)
    monkeypatch.setattr("kvplan.measure.session.opened", lambda _: card)
    monkeypatch.setattr("kvplan.measure.session.read_card", lambda _: facts)
    both = (question("llama3-70b", 100_001), question("deepseek-v3", 100_000))
    found = measure(Request("cuda", both, (CacheLayout.VLLM, CacheLayout.WHOLE), find_max=True))
    assert [each.proved for each in found.caches] == [True] * 4
    assert [each.reserved_bytes for each in found.caches] == [
        32_773_242_880 + 110_100_480,  # as the H100 counted it
        32_768_327_680 + 1_769_472,
        61 * 110 * MIB,  # 6,250 pages of 18,432 B are 109.86 MiB a layer
        -(-70_272 * 100_000 // SEGMENT) * SEGMENT,
    ]
    llama = found.limits[0]
    assert llama.layout is CacheLayout.VLLM
    assert llama.plan
    assert llama.plan.max_context_tokens == 80 * GIB // 327_680
    assert llama.context
    assert llama.context.found == 80 * GIB // (80 * SEGMENT) * 512  # 2 MiB hold 512 tokens
    assert llama.context.exact
    assert card.bounds == []

    bounded = measure(Request("cuda", both[:1], (CacheLayout.WHOLE,), max_bytes=GIB))
    assert bounded.caches[0].shortened
    assert card.bounds == [GIB, None]


@pytest.mark.parametrize("hidden_mib", [0, 2, 20, 300, -2, -64, -900])
def test_the_longest_context_is_found_by_few_allocations(
    hidden_mib: int, put_on: Callable[[MadeUpCard], MadeUpCard]
) -> None:
    card = put_on(MadeUpCard(78 * GIB + 123 * MIB, hidden_mib * MIB))
    found = longest_context(card, question("llama3-70b"), CacheLayout.ARITHMETIC)  # type: ignore[arg-type]
    assert found is not None
    really = card.capacity_bytes - hidden_mib * MIB
    # 160 tensors, each of 1,024 tokens of 2,048 B in a segment of 2 MiB
    assert found.found == really // (160 * SEGMENT) * 1_024
    assert found.exact
    assert found.allocations <= MOST_ALLOCATIONS
    if hidden_mib == 0:
        assert found.allocations == 2


def test_the_most_sequences(put_on: Callable[[MadeUpCard], MadeUpCard]) -> None:
    card = put_on(MadeUpCard(78 * GIB))
    found = most_sequences(card, question("deepseek-v3", 131_072), CacheLayout.WHOLE)  # type: ignore[arg-type]
    assert found is not None
    assert (found.found, found.refused) == (9, 10)  # 8.578 GiB each
    assert found.left_bytes == 78 * GIB - 9 * 9_210_691_584  # whole segments of 2 MiB


def test_a_grown_cache_is_allocated_as_it_is_predicted(
    put_on: Callable[[MadeUpCard], MadeUpCard],
) -> None:
    card = put_on(MadeUpCard(10 * GIB))
    asked = question("llama2-7b", 8_192)
    assert card.usable_bytes() == 10 * GIB
    found = longest_context(card, asked, CacheLayout.ARITHMETIC, 5 * GIB)  # type: ignore[arg-type]
    assert found is not None
    assert (found.found, found.refused, found.left_bytes) == (10_240, 10_241, 0)


def test_nothing_fits_and_nothing_bounds(put_on: Callable[[MadeUpCard], MadeUpCard]) -> None:
    card = put_on(MadeUpCard(MIB))
    found = most_sequences(card, question("llama3-70b", 131_072), CacheLayout.WHOLE)  # type: ignore[arg-type]
    assert found is not None
    assert (found.found, found.refused, found.allocations) == (0, 1, 1)
    assert longest_context(CPU, question("mamba-2.8b"), CacheLayout.ARITHMETIC) is None


def test_a_bound_of_the_users_own_is_kept() -> None:
    found = longest_context(CPU, question("llama3-70b"), CacheLayout.ARITHMETIC, 100 * MIB)
    assert found is not None
    assert (found.found, found.refused, found.allocations) == (320, 321, 1)
    assert found.left_bytes == 0


def test_a_device_that_refuses_what_it_shows(
    put_on: Callable[[MadeUpCard], MadeUpCard],
) -> None:
    card = put_on(MadeUpCard(60 * GIB, hidden_bytes=30 * GIB))
    with pytest.raises(MeasurementError, match="refuses memory that it shows as free"):
        measured_caches(card, question("llama3-70b", 131_072), CacheLayout.ARITHMETIC)  # type: ignore[arg-type]


def measurement(**changes: object) -> CacheMeasurement:
    found = measured_caches(CPU, question("llama2-7b"), CacheLayout.WHOLE)
    counted = Prediction(1_000, 2_000, 3_000)
    on_a_card = replace(
        found,
        predicted=counted,
        allocated_bytes=1_000,
        reserved_bytes=2_000,
        device_bytes=2_000,
        peak_bytes=3_000,
    )
    return replace(on_a_card, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"allocated_bytes": 1_512},
        {"reserved_bytes": 4_000},
        {"device_bytes": 4_000},
        {"peak_bytes": 3_001},
        {"tensor_bytes": 1},
        {"left_bytes": 512},
        {"intact": False},
        {"predicted": None},  # and the counters do not show the plan either
    ],
)
def test_any_counter_that_differs_proves_nothing(changes: dict[str, object]) -> None:
    assert measurement().proved
    assert not measurement(**changes).proved


def test_where_nothing_is_predicted_the_plan_is_what_counts() -> None:
    planned = measurement().planned_bytes
    counters = ("allocated_bytes", "reserved_bytes", "device_bytes", "peak_bytes")
    assert measurement(predicted=None, **dict.fromkeys(counters, planned)).proved


def test_devices_by_name() -> None:
    assert isinstance(opened("cpu"), CpuDevice)
    for name in ("gpu", "cuda:x", "cpu:1", "", "cuda:1234"):
        with pytest.raises(UsageError, match="is not known"):
            opened(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device() -> None:
    with pytest.raises(MeasurementError, match="no CUDA device: torch") as refused:
        opened("cuda")
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("text", "expandable", "unknown"),
    [
        ("", False, ()),
        ("expandable_segments:True", True, ()),
        ("max_split_size_mb:512, expandable_segments:True", True, ("max_split_size_mb:512",)),
        ("backend:native,expandable_segments:False", False, ()),
        ("expandable_segments: True", True, ()),
        ("expandable_segments:True,expandable_segments:False", False, ()),
        ("garbage", False, ("garbage:",)),
    ],
)
def test_allocator_options(
    text: str, expandable: bool, unknown: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", text)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    found = allocator_settings("native")
    assert (found.expandable, found.unknown) == (expandable, unknown)
    assert found.predictable == (not unknown)
    assert not allocator_settings("cudaMallocAsync").predictable


def test_the_host_as_a_card() -> None:
    card = read_card(CPU)
    assert card.kind == "cpu"
    assert 0 < card.usable_bytes < card.free_bytes <= card.total_bytes
    assert card.process_bytes is None


def test_ceilings_keep_to_their_room() -> None:
    with pytest.raises(MeasurementError, match="too few to measure"):
        measured_ceilings(CPU, 100_000)
    assert measured_ceilings(CPU, 8 * MIB).read_bytes_per_second > 0


def test_ceilings_are_rates() -> None:
    found = measured_ceilings(CPU, GIB)
    assert 10**8 < found.read_bytes_per_second < 10**13
    assert 10**9 < found.matmul_flops_per_second < 10**15


def test_the_roof_is_the_larger_of_two() -> None:
    ceilings = Ceilings(read_bytes_per_second=100.0, matmul_flops_per_second=1_000.0)
    assert ceilings.roof_seconds(100, 500) == 1.0
    assert ceilings.roof_seconds(100, 2_500) == 2.5


H100 = Card(
    name="NVIDIA H100 80GB HBM3",
    kind="cuda",
    torch_version="2.11.0+cu130",
    total_bytes=85_017_493_504,
    free_bytes=84_301_512_704,
    usable_bytes=84_299_415_552,
    driver=Driver("580.159.04", 85_520_809_984, 85_017_493_504, 0, 0),
    context_bytes=549_000_000,
    kernels_bytes=96_000_000,
    matmul_bytes=69_000_000,
)


class MadeUpNvml(ModuleType):
    """NVML's Python interface (nvidia-ml-py, pynvml.py) with an H100 behind it."""

    class NVMLError(Exception):
        """What NVML raises."""

    nvmlMemory_v2 = 2  # noqa: N815
    nvmlInit = nvmlShutdown = staticmethod(lambda: None)  # noqa: N815
    nvmlSystemGetDriverVersion = staticmethod(lambda: "580.159.04")  # noqa: N815

    def __init__(self, processes: list[int | None] | None) -> None:
        super().__init__("pynvml")
        self.processes = processes

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1234":
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetMemoryInfo(  # noqa: N802
        self, _handle: str, version: int | None = None
    ) -> SimpleNamespace:
        free = 85_017_493_504 if version == 2 else 84_000_000_000
        return SimpleNamespace(total=85_520_809_984, free=free)

    def nvmlDeviceGetComputeRunningProcesses(  # noqa: N802
        self, _handle: str
    ) -> list[SimpleNamespace]:
        if self.processes is None:
            raise self.NVMLError
        return [SimpleNamespace(usedGpuMemory=size) for size in self.processes]


@pytest.mark.parametrize(
    ("processes", "others"),
    [([], (0, 0)), ([3 * GIB, GIB], (4 * GIB, 2)), ([None], (None, 1)), (None, (None, None))],
)
def test_what_the_driver_says(
    processes: list[int | None] | None,
    others: tuple[int | None, int | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", MadeUpNvml(processes))
    said = Driver("580.159.04", 85_520_809_984, 85_017_493_504, *others)
    assert driver_facts("1234") == driver_facts("GPU-1234") == said
    assert driver_facts("of another maker") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert driver_facts("1234") is None


def test_a_saved_card_is_a_gpu(tmp_path: Path) -> None:
    file = tmp_path / "gpu.yaml"
    file.write_text(to_yaml(gpu_entry(H100, Ceilings(3.1e12, 6.9e14), "2026-11-22")))
    gpu = kvplan.load_gpu(str(file))
    assert gpu.name == "nvidia-h100-80gb-hbm3-measured"
    assert (gpu.memory_bytes, gpu.memory_basis) == (85_017_493_504, "measured")
    assert (gpu.bandwidth_bytes_per_s, gpu.rates_basis) == (3_100_000_000_000, "measured")
    assert gpu.driver_memory_mib == 81_559
    assert gpu.process_bytes == 714_000_000
    assert gpu.fp8_flops is None
    assert "2026-11-22" in gpu.sources


def test_a_cpu_is_no_gpu() -> None:
    with pytest.raises(UsageError, match="--save"):
        gpu_entry(read_card(CPU), Ceilings(1.0, 1.0), "2026-11-22")


def test_a_session_on_the_cpu() -> None:
    steps: list[str] = []
    done: list[float] = []

    def tell(step: str, share: float) -> None:
        steps.append(step)
        done.append(share)

    request = Request(
        "cpu",
        (question("llama3-70b", 48), question("deepseek-v3", 48)),
        (CacheLayout.ARITHMETIC, CacheLayout.VLLM),
        max_bytes=200 * MIB,
        find_max=True,
        decode=True,
    )
    found = measure(request, tell)
    assert [(each.question.spec.name, each.layout.value) for each in found.caches] == [
        ("llama3-70b", "arithmetic"),
        ("llama3-70b", "vllm"),
        ("deepseek-v3", "arithmetic"),
        ("deepseek-v3", "vllm"),
    ]
    assert [limits.context and limits.context.found for limits in found.limits] == [640, 2_984]
    assert [limits.plan and limits.plan.max_context_tokens for limits in found.limits] == [
        640,
        2_984,
    ]
    assert [limits.plan and limits.plan.max_sequences for limits in found.limits] == [13, 62]
    assert [each.read_bytes for each in found.decode] == [327_680 * 48, 70_272 * 48]
    assert [each.caches.sequences for each in found.same_memory] == [4]  # of 4.66
    assert "deepseek-v3: vllm" in steps
    assert "deepseek-v3: a decode step, torch" in steps
    assert done == sorted(done)
    assert done[0] == 0
    assert 0.8 < done[-1] < 1


def test_a_layout_that_one_model_lacks_is_passed_over() -> None:
    both = (question("gemma3-27b"), question("llama3-70b"))
    found = measure(Request("cpu", both, (CacheLayout.ARITHMETIC, CacheLayout.VLLM)))
    assert len(found.caches) == 3
    assert "gemma3-27b: vLLM groups" in found.refused[0]
    with pytest.raises(RefusedError):
        measure(Request("cpu", both[:1], (CacheLayout.VLLM,)))


def test_weights_come_first_where_asked_for() -> None:
    asked = question("qwen3-0.6b")
    weights = asked.spec.weights_bytes
    assert weights
    segments = -(-weights // SEGMENT) * SEGMENT
    bound = segments + 100 * MIB
    request = Request("cpu", (asked,), max_bytes=bound, find_max=True, reserve_weights=True)
    (limits,) = measure(request).limits
    assert limits.weights_fit
    assert limits.weights_bytes == segments
    assert limits.context
    assert limits.context.found == 100 * MIB // (28 * 2 * 8 * 128 * 2)
    (small,) = measure(replace(request, max_bytes=segments - 1)).limits
    assert not small.weights_fit
    assert small.context is None


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("cpu", (question("llama3-70b", tensor_parallel=3),)), "do not divide over -tp 3"),
        (Request("cpu", (question("mamba-2.8b"),), decode=True), "Mamba is not measured"),
        (
            Request(
                "cpu",
                (replace(question("llama3-70b"), kv_cache_dtype="fp8"),),
                decode=True,
            ),
            "bf16 and fp16 caches, not fp8",
        ),
        (
            Request(
                "cpu",
                (question("llama3-70b"),),
                (CacheLayout.GROWN, CacheLayout.SEQUENCES),
                find_max=True,
            ),
            "allocated at once",
        ),
    ],
)
def test_questions_that_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(KvplanError, match=message):
        measure(request_)


def test_mla_kinds_are_what_shapes_expect() -> None:
    kind = next(kind for kind, _, _ in kvplan.load("deepseek-v3").caches())
    assert isinstance(kind, MLA)
    assert [slot.role for slot in kind.slots()] == ["latent", "rope_key"]
