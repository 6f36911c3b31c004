"""Budgets, limits and the search: by hand, and what has to hold always."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.errors import RefusedError, UsageError
from kvplan.formats import CacheFormat, Packing
from kvplan.parallel import redundant_experts, tensor_parallel_sizes
from kvplan.planner.estimate import experts_touched
from kvplan.planner.layouts import layouts
from kvplan.planner.solve import runner_up, solve_native
from kvplan.question import ask
from kvplan.spec import ModelSpec
from kvplan.views.words import topology
from tests.strategies import specs

GIB = 2**30
H100 = kvplan.load_gpu("h100")
LLAMA = kvplan.load("llama3-70b")
DEEPSEEK = kvplan.load("deepseek-v3")


def test_stages_keep_the_order_of_unlike_layers() -> None:
    """Gemma-3-27B: every sixth of 62 layers is full; halves of 31 have 5 of them each."""
    counts = [
        {kind.kind: layers for kind, layers, _ in stage.caches()}
        for stage in kvplan.load("gemma3-27b").stages(2)
    ]
    assert counts == [
        {"sliding_window": 26, "full_attention": 5},
        {"sliding_window": 26, "full_attention": 5},
    ]


def test_a_budget_adds_up() -> None:
    plan = kvplan.plan(
        LLAMA,
        gpu="h100",
        tensor_parallel_size=4,
        context_tokens="32k",
        sequences=16,
        gpu_memory_utilization=0.9,
        overhead="3GiB",
    )
    budget = plan.budget
    assert budget.allowed_bytes == int(85_017_493_504 * 0.9)
    assert budget.cache.total_bytes == 16 * 32_768 * 81_920
    assert (
        budget.weights_bytes + 3 * GIB + budget.cache.total_bytes + budget.free_bytes
        == budget.allowed_bytes
    )


def test_the_caches_room_can_be_given_outright() -> None:
    """VLLM 0.33.0's own run: 40 GiB a rank hold 1,048,576 tokens of Llama-3.1-70B on eight."""
    plan = kvplan.plan(
        "llama3.1-70b",
        gpu="h100",
        tensor_parallel_size=8,
        context_tokens="128k",
        kv_cache_memory_bytes="40GiB",
    )
    assert plan.tokens == 1_048_576
    assert plan.max_sequences == plan.sequences == 8


def test_room_that_is_given_has_to_be_there() -> None:
    """Half of Llama-3-70B is 70,555,025,408 B: of an H100 14 GB are left, and never 30 GiB."""
    taken = 70_555_025_408 + 2 * GIB
    short = taken + 30 * GIB - 85_017_493_504
    for given_bytes, free_bytes in ((30 * GIB, -short), (10 * GIB, 10 * GIB - 8_192 * 163_840)):
        plan = kvplan.plan(
            LLAMA,
            gpu="h100",
            tensor_parallel_size=2,
            context_tokens=8_192,
            sequences=1,
            overhead=2 * GIB,
            kv_cache_memory_bytes=given_bytes,
        )
        assert plan.budget.weights_bytes == taken - 2 * GIB
        assert plan.fits is (free_bytes > 0)
        assert plan.budget.free_bytes == free_bytes
        assert bool(plan.max_sequences) is (free_bytes > 0)
    assert plan.budget.allowed_bytes == taken + 10 * GIB
    everywhere = kvplan.plan(LLAMA, gpu="h100", kv_cache_memory_bytes="80GiB")
    assert not everywhere.fits


@pytest.mark.parametrize(
    ("degrees", "tokens"),
    [
        # vLLM 0.33.0 with 40 GiB a rank: 611,184 tokens in whole pages of 16, and eight times that
        ({}, 611_184),
        ({"decode_context_parallel_size": 8}, 4_889_472),
    ],
)
def test_decode_context_parallelism_divides_latents(degrees: Any, tokens: int) -> None:
    plan = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        tensor_parallel_size=8,
        context_tokens=163_840,
        sequences=1,
        kv_cache_memory_bytes="40GiB",
        **degrees,
    )
    assert plan.max_context_tokens is not None
    assert 0 <= plan.max_context_tokens - tokens < 16 * plan.layout.context


def test_what_the_layouts_of_eight_gpus_hold() -> None:
    """The table that shows why a latent cache wants other than tensor parallelism.

    A latent is 1,152 B in each of 61 layers, whole on every GPU but where DCP divides its tokens.
    """
    plans = {
        plan.layout.name: plan
        for plan in kvplan.layouts(
            DEEPSEEK,
            gpu="h200",
            gpus=8,
            context_tokens="128k",
            sequences=1,
            gpu_memory_utilization=1.0,
            overhead=0,
        )
    }
    tensor, ranks, context = plans["TP8"], plans["DP8+EP8"], plans["TP8+DCP8"]
    assert tensor.budget.cache.bytes_per_token == 61 * 1_152
    assert ranks.budget.cache.bytes_per_token == 61 * 1_152
    assert context.budget.cache.bytes_per_token == 61 * 1_152 // 8
    room = 150_109_880_320 - ranks.budget.weights_bytes
    assert ranks.max_sequences == 8 * (room // (70_272 * 131_072))


def test_layouts_that_do_not_fit_come_last_by_what_they_lack() -> None:
    """Eight whole copies of 673,150,611,808 B lack most."""
    plans = kvplan.layouts(DEEPSEEK, gpu="h200", gpus=8, context_tokens="128k", sequences=1)
    lacking = [plan.missing_bytes for plan in plans]
    assert lacking == sorted(lacking)
    assert plans[-1].layout.name == "8 × TP1"
    eligible = [plan.layout for plan in plans if plan.fits]
    assert [layout.pipeline > 1 for layout in eligible] == sorted(
        layout.pipeline > 1 for layout in eligible
    )


def test_every_layout_of_so_many_gpus() -> None:
    """Replicas of each, stages and context parallelism together."""
    names = {layout.name for layout in layouts(DEEPSEEK, 8)}
    assert {
        *("TP8", "DP8+EP8", "DP4×TP2", "PP2×TP4+DCP2", "2 × DP2×TP2+EP4", "8 × TP1", "PP8×TP1"),
        "PP2×DP2×TP2+EP4",
    } <= names
    assert {layout.name for layout in layouts(LLAMA, 4)} == {
        "4 × TP1",
        "2 × PP2×TP1",
        "PP4×TP1",
        "2 × TP2",
        "PP2×TP2",
        "TP4",
    }
    assert all(layout.gpus == 8 for layout in layouts(DEEPSEEK, 8))


@pytest.mark.parametrize(
    ("model", "gpu", "gpus"),
    [
        ("llama3-70b", "a100", 4),
        ("llama3-70b", "h100", 4),
        ("llama3-70b", "h200", 2),
        ("llama3-70b", "b200", 2),  # 175 GiB of 178.35 GiB, but 92% of it may be used
        ("deepseek-v3", "a100", 16),
        ("deepseek-v3", "h100", 16),
        ("deepseek-v3", "h200", 8),
        # a fourth of the weights, 156.7 GiB, leaves no room for 8.6 GiB of latents on a B200
        ("deepseek-v3", "b200", 8),
    ],
)
def test_the_fewest_gpus_at_128k(model: str, gpu: str, gpus: int) -> None:
    plan = kvplan.plan(model, gpu=gpu, context_tokens="128k", sequences=1)
    assert plan.fits
    assert plan.layout.gpus == gpus


@pytest.mark.parametrize("model", [spec.name for spec in kvplan.catalogue()])
def test_every_command_names_the_same_gpus_and_layout(model: str) -> None:
    """A row of compare is a plan, and check asks no other search."""
    plan = kvplan.plan(model, gpu="h100", context_tokens="32k", sequences=16)
    (row,) = kvplan.compare([model], "32k", 16, gpu="h100").rows
    assert row.plan is not None
    assert (row.plan.layout, row.plan.fits) == (plan.layout, plan.fits)
    if plan.fits:
        best = kvplan.layouts(
            model, gpu="h100", gpus=plan.layout.gpus, context_tokens="32k", sequences=16
        )[0]
        assert best.layout == plan.layout, best.layout.name


def test_what_is_not_given_is_found() -> None:
    model = "llama3.1-70b"
    most = kvplan.plan(model, gpu="h100", context_tokens="32k", gpus=4)
    assert most.sequences == most.max_sequences
    longest = kvplan.plan(model, gpu="h100", sequences=4, gpus=4)
    assert longest.context_tokens == longest.max_context_tokens
    native = kvplan.plan(model, gpu="h100", sequences=1, gpus=8)
    assert native.context_tokens == 131_072  # the native context, although more would fit
    nothing = kvplan.plan(model, gpu="h100")
    # Room for 8,192 tokens decides the GPUs, and these then hold (72.84 - 2.33 - 65.7) GiB more.
    assert nothing.layout.name == "TP2"
    assert 8_192 < nothing.context_tokens < 131_072


def test_where_nothing_fits_the_plan_lacks_least() -> None:
    """Two H100 lack a fifth of their memory in TP2, and all of the weights in two replicas."""
    plan = kvplan.plan(LLAMA, gpu="h100", gpus=2, context_tokens="128k", sequences=1)
    assert not plan.fits
    assert (plan.step, plan.tokens_per_second_bound) == (None, None)
    assert plan.layout.name in ("TP2", "PP2×TP1")
    assert plan.missing_bytes == min(
        other.missing_bytes
        for other in kvplan.layouts(LLAMA, gpu="h100", gpus=2, context_tokens="128k", sequences=1)
    )


def test_multi_head_latents_hold_five_times_the_batch() -> None:
    """DeepSeek-V2 beside its dense predecessor on eight H100, 4k contexts, both served in bf16.

    The paper's 5.76 times the throughput rests on fp8 weights and a 6-bit cache as well; bytes
    alone give 5.6 times less cache a token, and a batch that memory bounds.
    """
    dense, latent = kvplan.load("deepseek-llm-67b"), kvplan.load("deepseek-v2")
    per_token = [kvplan.footprint(spec, "4k").bytes_per_token for spec in (dense, latent)]
    assert per_token == [389_120, 69_120]
    on_eight = kvplan.plan(dense, gpu="h100", gpus=8, context_tokens="4k").max_sequences
    on_sixteen = kvplan.plan(
        latent,
        gpu="h100",
        tensor_parallel_size=16,
        decode_context_parallel_size=16,
        context_tokens="4k",
    ).max_sequences
    assert on_eight is not None
    assert on_sixteen is not None
    assert on_sixteen > 5 * on_eight


def test_the_decode_floor_reads_active_weights_and_caches_once() -> None:
    """Llama-3-70B on four: a quarter of the weights less the embedding, and 81,920 B a token."""
    plan = kvplan.plan(LLAMA, tensor_parallel_size=4, context_tokens="8k", sequences=10)
    embedding = 128_256 * 8_192 * 2
    norms = 161 * 8_192 * 2
    weights = (141_107_412_992 - embedding - norms) // 4 + norms
    assert plan.decode_read_bytes == weights + 10 * 8_192 * 81_920
    assert plan.decode_floor_seconds == (weights + 10 * 8_192 * 81_920) / 3.35e12


def test_stages_bound_a_step_together_and_the_throughput_one_by_one() -> None:
    """Two halves of 40 layers, an embedding looked up in the first and a head read in the last."""
    plan = kvplan.plan(
        LLAMA,
        tensor_parallel_size=2,
        pipeline_parallel_size=2,
        context_tokens="8k",
        sequences=10,
    )
    end, norms = 128_256 * 8_192 * 2, 161 * 8_192 * 2
    layers = (141_107_412_992 - 2 * end - norms) // 2 // 2 + norms // 2 + 10 * 8_192 * 40 * 2_048
    assert plan.decode_busiest_bytes == pytest.approx(layers + end // 2, rel=1e-6)
    assert plan.decode_read_bytes == pytest.approx(2 * layers + end // 2, rel=1e-6)
    assert plan.tokens_per_second_bound == 10 * 3.35e12 / plan.decode_busiest_bytes


def test_experts_of_one_token_are_the_fewest_that_are_read() -> None:
    """DeepSeek-V3: 37,552,282,624 active of 671,026,404,352: 8 of 256 experts."""
    plan = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        tensor_parallel_size=1,
        context_tokens=1,
        sequences=1,
        kv_cache_memory_bytes=GIB,
    )
    experts = 653_908_770_816 + 159_645_696
    rest = 673_150_611_808 - experts - 926_679_040 * 2
    assert plan.decode_read_bytes == pytest.approx(rest + experts / 32 + 70_272, rel=1e-9)


def test_a_cache_is_packed_once_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many layouts are tried, a format is asked for each slot of the model once."""
    asked: list[str] = []
    packing = CacheFormat.packing

    def count(self: CacheFormat, role: str, width: int) -> Packing:
        asked.append(role)
        return packing(self, role, width)

    monkeypatch.setattr(CacheFormat, "packing", count)
    kvplan.plan(DEEPSEEK, gpu="h200", context_tokens="32k", sequences=64)
    assert asked == ["latent", "rope_key"]
    asked.clear()
    kvplan.layouts(DEEPSEEK, gpu="h200", gpus=8, context_tokens="32k", sequences=64)
    assert asked == ["latent", "rope_key"]


def test_a_model_without_weights_is_refused_unless_the_room_is_given() -> None:
    bare: ModelSpec = replace(LLAMA, weights=(), parameters=None)
    with pytest.raises(RefusedError, match="weights"):
        kvplan.plan(bare, tensor_parallel_size=8)
    plan = kvplan.plan(
        bare, tensor_parallel_size=8, context_tokens="8k", kv_cache_memory_bytes="40GiB"
    )
    assert plan.max_sequences == 128


def test_heads_that_do_not_divide_are_the_same_mistake_everywhere() -> None:
    messages = set()
    for answer in (
        lambda: kvplan.plan(LLAMA, tensor_parallel_size=3),
        lambda: kvplan.compare([LLAMA], tensor_parallel_size=3),
        lambda: kvplan.footprint(LLAMA, 1, tensor_parallel=3),
    ):
        with pytest.raises(UsageError) as caught:
            answer()
        messages.add((caught.value.message, caught.value.hint))
    assert len(messages) == 1


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


@pytest.mark.parametrize(
    ("model", "gpu", "options", "name"),
    [
        # 39 users of 32k: 12 whole sequences of 4 GiB beside 15 GiB of weights on each of four,
        # 13 on each of three
        ("llama3.1-8b", "h100", {"context_tokens": "32k", "sequences": 39}, "3 × TP1"),
        ("deepseek-v3", "h200", {"context_tokens": "32k", "sequences": 64}, "DP8+EP8"),
        ("llama3.1-8b", "rtx-4090", {}, "TP1"),
        # six would hold it, but 256 experts do not divide over six; recipes take the node of eight
        ("deepseek-v3", "b200", {"context_tokens": "32k", "sequences": 64}, "DP8+EP8"),
        # the same experts on six GPUs all the same: stages do not need an uneven split
        ("deepseek-v3", "b200", {"sequences": 1, "gpus": 6}, "PP3×TP2"),
        # one sequence of a model that no node holds: stages, and as few as can be
        ("deepseek-v3", "h100", {"context_tokens": "128k", "sequences": 1}, "PP2×TP8"),
    ],
)
def test_layouts_are_chosen_as_people_deploy(
    model: str, gpu: str, options: dict[str, Any], name: str
) -> None:
    assert kvplan.plan(model, gpu=gpu, **options).layout.name == name


def test_fewer_gpus_with_redundant_experts_are_named_and_not_chosen() -> None:
    """256 experts over six GPUs: 43 on the fullest, 258 with two redundant ones."""
    question: dict[str, Any] = {"gpu": "b200", "context_tokens": "32k", "sequences": 64}
    runner = runner_up(kvplan.plan(DEEPSEEK, **question))
    assert runner is not None
    assert (runner.plan.layout.name, runner.reason) == ("DP6+EP6", "redundant experts")
    assert redundant_experts(DEEPSEEK, runner.plan.layout) == 2
    asked = kvplan.plan(
        DEEPSEEK, data_parallel_size=6, enable_expert_parallel=True, gpus=6, **question
    )
    assert asked.fits
    assert any("43" in note and "2 redundant" in note for note in topology(asked))


def test_vllms_recipe_of_eight_ranks_fits() -> None:
    """``--data-parallel-size 8 --enable-expert-parallel``: 61 layers' experts over eight GPUs."""
    plan = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        data_parallel_size=8,
        enable_expert_parallel=True,
        context_tokens="32k",
        sequences=64,
    )
    assert plan.fits
    assert plan.layout.gpus == 8


def test_a_batch_touches_the_experts_that_its_tokens_choose() -> None:
    """8 of 256: 1 − (31/32)^64 of them for 64 tokens, 86.9%; DeepSeek-V3 on 8 H200.

    Each GPU reads its share of the experts, all else, and the caches of its 8 sequences: 22 ms.
    """
    assert experts_touched(DEEPSEEK, 1) == pytest.approx(8 / 256)
    assert experts_touched(DEEPSEEK, 64) == pytest.approx(1 - (31 / 32) ** 64)
    plan = kvplan.plan(DEEPSEEK, gpu="h200", context_tokens="32k", sequences=64)
    assert plan.step is not None
    by_bytes = plan.step.seconds - plan.step.communication_seconds
    assert by_bytes == pytest.approx(0.022, rel=0.03)
    context = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        tensor_parallel_size=8,
        decode_context_parallel_size=8,
        context_tokens="32k",
        sequences=64,
    )
    assert context.step is not None
    assert context.step.seconds - context.step.communication_seconds == pytest.approx(
        0.019, rel=0.05
    )


def test_a_cap_of_concurrency_is_a_ranks() -> None:
    options: Any = {"tensor_parallel_size": 8, "context_tokens": "8k", "sequences": 40}
    assert kvplan.plan(LLAMA, gpu="h200", max_num_seqs=40, **options).fits
    capped = kvplan.plan(LLAMA, gpu="h200", max_num_seqs=39, **options)
    assert not capped.fits
    assert capped.budget.fits
    assert capped.max_sequences == 39
    two = kvplan.plan(LLAMA, gpu="h200", max_num_seqs=20, replicas=2, **options)
    assert two.fits


def test_the_native_context_is_answered_beside_a_question_without_one() -> None:
    question = ask(["llama3.1-8b"], gpu="rtx-4090")
    native = solve_native(question.models[0], question)
    assert native is not None
    assert (native.context_tokens, native.layout.gpus) == (131_072, 2)
    assert solve_native(question.models[0], replace(question, gpus=1)) is None
