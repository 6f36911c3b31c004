"""What holds of every model and GPU: limits are tight, and more never holds less."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.parallel import tensor_parallel_sizes
from kvplan.planner.layouts import layouts
from kvplan.spec import ModelSpec
from tests.strategies import specs

GIB = 2**30


def _around(limit: int | None) -> tuple[int, ...]:
    return () if limit is None else (max(limit, 1), limit + 1)


@pytest.mark.parametrize("gpu", [gpu.name for gpu in kvplan.gpus()])
def test_limits_are_tight_and_a_smaller_cache_holds_no_less(gpu: str) -> None:
    """Every model of the catalogue on this GPU: what is said to fit does, and one more does not."""
    for spec in kvplan.catalogue():
        longest = []
        for dtype in ("bf16", "fp8"):

            def fits(
                tokens: int, sequences: int, spec: ModelSpec = spec, dtype: str = dtype
            ) -> bool:
                options: Any = {"context_tokens": tokens, "sequences": sequences}
                return kvplan.plan(
                    spec, gpu=gpu, tensor_parallel_size=1, kv_cache_dtype=dtype, **options
                ).fits

            plan = kvplan.plan(
                spec,
                gpu=gpu,
                tensor_parallel_size=1,
                kv_cache_dtype=dtype,
                context_tokens="4k",
                sequences=2,
            )
            tokens, sequences = plan.max_context_tokens, plan.max_sequences
            expected = [] if tokens is None else [tokens > 0, False]
            assert [fits(limit, 2) for limit in _around(tokens)] == expected, spec.name
            expected = [] if sequences is None else [sequences > 0, False]
            assert [fits(4_096, limit) for limit in _around(sequences)] == expected, spec.name
            longest.append(float("inf") if tokens is None else tokens)
        assert longest[0] <= longest[1], spec.name


@given(specs, st.integers(1, 100), st.integers(1, 300_000))
def test_the_longest_context_is_tight(spec: ModelSpec, sequences: int, tokens: int) -> None:
    """By the footprint's own arithmetic, on a GPU whose room is given."""
    room = 20 * GIB
    plan = kvplan.plan(
        spec,
        gpu="h100",
        tensor_parallel_size=1,
        context_tokens=tokens,
        sequences=sequences,
        kv_cache_memory_bytes=room,
        overhead=0,
    )
    taken = plan.budget.weights_bytes + room <= 85_017_493_504
    longest = plan.max_context_tokens
    if longest is None:
        assert kvplan.footprint(spec, 10**15, sequences).total_bytes <= room
        return
    assert longest == 0 or kvplan.footprint(spec, longest, sequences).total_bytes <= room
    assert not taken or kvplan.footprint(spec, longest + 1, sequences).total_bytes > room


@given(specs, st.integers(1, 50))
def test_wider_groups_never_hold_less(spec: ModelSpec, sequences: int) -> None:
    longest = [
        kvplan.plan(
            spec, gpu="h100", tensor_parallel_size=size, context_tokens=1, sequences=sequences
        ).max_context_tokens
        for size in tensor_parallel_sizes(spec)
    ]
    as_numbers = [float("inf") if tokens is None else tokens for tokens in longest]
    assert as_numbers == sorted(as_numbers)


@pytest.mark.parametrize("model", [spec.name for spec in kvplan.catalogue()])
def test_more_gpus_never_hold_less(model: str) -> None:
    best = [
        max(
            plan.max_concurrency
            for plan in kvplan.layouts(model, gpu="h100", gpus=gpus, context_tokens="8k")
        )
        for gpus in (1, 2, 4, 8, 16)
    ]
    assert best == sorted(best)


def _brute_force(spec: ModelSpec, gpus: int, options: dict[str, Any]) -> bool:
    """Whether any eligible layout of so many GPUs holds the load, tried one by one."""
    gpu = kvplan.load_gpu(options["gpu"])
    for layout in layouts(spec, gpus):
        eligible = (
            layout.pipeline == layout.context == 1
            and layout.tensor <= gpu.link_domain
            and layout.data <= options["sequences"]
            and (layout.server_gpus <= gpu.link_domain or layout.server_gpus % gpu.link_domain == 0)
            and not (
                layout.expert_parallel
                and (spec.routed_experts or 0) % (layout.tensor * layout.data)
            )
        )
        degrees: dict[str, Any] = {
            "tensor_parallel_size": layout.tensor,
            "data_parallel_size": layout.data,
            "replicas": layout.replicas,
            "enable_expert_parallel": layout.expert_parallel,
        }
        if eligible and kvplan.plan(spec, **degrees, **options).fits:
            return True
    return False


@settings(max_examples=60)
@given(
    st.sampled_from([spec.name for spec in kvplan.catalogue()]),
    st.sampled_from(["h100", "h200", "b200", "l40s", "mi300x", "rtx-4090"]),
    st.sampled_from([2_048, 8_192, 32_768, 131_072]),
    st.integers(1, 200),
)
def test_fewest_is_fewest(model: str, gpu: str, context_tokens: int, sequences: int) -> None:
    """No smaller count within a node, and no fewer whole nodes, hold what needs more."""
    spec = kvplan.load(model)
    options: dict[str, Any] = {
        "gpu": gpu,
        "context_tokens": context_tokens,
        "sequences": sequences,
    }
    plan = kvplan.plan(spec, **options)
    domain = kvplan.load_gpu(gpu).link_domain
    if plan.layout.pipeline > 1 or not plan.fits:
        counts = [*range(1, domain + 1), 2 * domain, 3 * domain, 8 * domain]
    else:
        assert plan.layout.gpus <= domain or plan.layout.gpus % domain == 0
        assert _brute_force(spec, plan.layout.gpus, options)
        smaller = plan.layout.gpus - 1
        counts = [*range(1, min(domain, smaller) + 1), *range(2 * domain, smaller + 1, domain)]
    for gpus in counts[-6:]:
        assert not _brute_force(spec, gpus, options), gpus
