"""Plans: budgets by hand, the fewest GPUs, and what is found where nothing is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import kvplan
from kvplan.errors import RefusedError
from kvplan.formats import CacheFormat, Packing
from kvplan.parallel import redundant_experts
from kvplan.planner.runner_up import runner_up
from kvplan.planner.solve import solve, solve_native
from kvplan.question import ask
from kvplan.spec import ModelSpec
from kvplan.stored import StoredWeights
from kvplan.views.notes import topology

GIB = 2**30
H100 = kvplan.load_gpu("h100")
LLAMA = kvplan.load("llama3-70b")
DEEPSEEK = kvplan.load("deepseek-v3")


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


@pytest.mark.parametrize(
    ("room", "longest"),
    [
        ("40GiB", 40 * GIB // 393_216),  # within the native context
        ("80GiB", 80 * GIB // 393_216),  # beyond it, where every token is kept yet
        (103_079_215_103, 262_143),
        (103_079_215_104, None),  # the window whole: any context
    ],
)
def test_the_longest_context_sees_a_window_beyond_the_native_one(
    room: str | int, longest: int | None
) -> None:
    """Phi-3-mini-128k keeps 393,216 B a token, 262,144 tokens at the most."""
    plan = kvplan.plan(
        "phi-3-mini-128k", gpu="b200", gpus=1, sequences=1, kv_cache_memory_bytes=room
    )
    assert plan.max_context_tokens == longest
    assert plan.context_tokens == min(longest or 131_072, 131_072)


def test_without_a_context_the_native_one_is_planned_where_memory_does_not_bound_it() -> None:
    """Mistral-7B-v0.1 slides over 4,096 of its 32,768 tokens; Mamba names no context."""
    plan = kvplan.plan("mistral-7b", gpu="h100", gpus=1, sequences=1)
    assert (plan.max_context_tokens, plan.context_tokens) == (None, 32_768)
    plan = kvplan.plan("mamba-2.8b", gpu="h100", gpus=1, sequences=1)
    assert (plan.max_context_tokens, plan.context_tokens) == (None, 8_192)


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


def test_a_smaller_count_that_is_not_chosen_is_named() -> None:
    """256 experts over six GPUs: 43 on the fullest, 258 with two redundant; or three stages."""
    question: dict[str, Any] = {"gpu": "b200", "context_tokens": "32k", "sequences": 64}
    runner = runner_up(kvplan.plan(DEEPSEEK, **question))
    assert runner is not None
    assert runner.plan.fits
    assert runner.plan.layout.gpus == 6
    assert runner.reason in ("pipeline stages", "redundant experts")
    asked = kvplan.plan(
        DEEPSEEK, data_parallel_size=6, enable_expert_parallel=True, gpus=6, **question
    )
    assert asked.fits
    assert redundant_experts(DEEPSEEK, asked.layout) == 2
    assert any("43" in note and "2 redundant" in note for note in topology(asked))


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


@pytest.mark.parametrize("gpu", ["l4", "rtx-4090", "gh200"])
@pytest.mark.parametrize("model", [spec.name for spec in kvplan.catalogue()])
def test_a_question_without_a_layout_has_an_answer(model: str, gpu: str) -> None:
    """No candidate of the search is a mistake of who asked; the same GPUs give the same layout."""
    question: dict[str, Any] = {"gpu": gpu, "context_tokens": 100_000, "sequences": 3}
    try:
        plan = kvplan.plan(model, **question)
    except RefusedError:
        assert not kvplan.load(model).weights
        return
    if plan.fits and plan.layout.gpus <= 8:
        assert kvplan.plan(model, gpus=plan.layout.gpus, **question).layout == plan.layout


def test_stages_of_ranks_hold_what_no_node_does() -> None:
    """384 experts over 24 ranks, eight stages of them: 192 cards of 24 GB."""
    question: dict[str, Any] = {"gpu": "rtx-4090", "context_tokens": 100_000, "sequences": 250}
    by_hand = kvplan.plan(
        "kimi-k2",
        pipeline_parallel_size=8,
        data_parallel_size=24,
        enable_expert_parallel=True,
        **question,
    )
    assert by_hand.fits
    plan = kvplan.plan("kimi-k2", **question)
    assert plan.fits
    assert plan.layout.gpus <= by_hand.layout.gpus == 192


def test_context_parallelism_is_not_chosen_for_given_gpus_either() -> None:
    plan = kvplan.plan("kimi-k2", gpu="rtx-4090", gpus=384, context_tokens=100_000, sequences=250)
    assert plan.fits
    assert plan.layout.context == 1


def test_a_smaller_count_with_idle_ranks_is_named() -> None:
    """One sequence on three ranks: two keep experts and nothing else."""
    runner = runner_up(
        kvplan.plan("qwen3-235b-a22b", gpu="mi300x", context_tokens="32k", sequences=1)
    )
    assert runner is not None
    assert runner.plan.layout.gpus == 3
    assert runner.reason in ("idle ranks", "pipeline stages")


def test_a_cap_of_concurrency_leaves_as_few_waiting_as_can_be() -> None:
    """Eight a rank: four copies on four GPUs run 32 of 64, and no context lets all run."""
    plan = kvplan.plan(
        "llama3.1-8b", gpu="h100", gpus=4, max_num_seqs=8, context_tokens="8k", sequences=64
    )
    assert not plan.fits
    assert plan.layout.name == "4 × TP1"
    assert plan.waiting == 64 - 4 * 8
    assert plan.max_context_tokens == 0


def test_a_vision_tower_needs_room_for_the_images_that_an_engine_tries() -> None:
    """Qwen2.5-VL-7B on a 4090 at 0.8 had 0.13 GiB for caches (allenai/olmocr issue 269)."""
    text = {"embedding": 544_997_376, "lm_head": 544_997_376, "attention": 822_211_584}
    rows = {**text, "dense_mlp": 5_703_204_864, "vision": 676_550_144}
    spec = replace(
        LLAMA,
        parameters=None,
        weights=tuple(
            StoredWeights(part=part, dtype="bf16", elements=count)  # type: ignore[arg-type]
            for part, count in rows.items()
        ),
    )
    options = {"gpu": "rtx-4090", "gpus": 1, "gpu_memory_utilization": 0.8}
    plan = solve(spec, ask([spec], context_tokens=1024, sequences=1, **options))  # type: ignore[arg-type]
    assert 0.0 < plan.budget.room_bytes / (1 << 30) < 0.3
