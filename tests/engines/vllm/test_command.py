"""The command of a layout: by hand from vLLM 0.33.0's own arguments."""

from __future__ import annotations

import shlex

import pytest

from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.command import Launch, Process, processes
from kvplan.errors import RefusedError
from kvplan.parallel import Layout

DEFAULTS = ServerSettings(engine="vllm")


def of(
    layout: Layout, settings: ServerSettings = DEFAULTS, **options: object
) -> tuple[Process, ...]:
    return processes(
        Launch(model="org/M", layout=layout, settings=settings, options=options, node_gpus=8)  # type: ignore[arg-type]
    )


def line(layout: Layout, settings: ServerSettings = DEFAULTS, **options: object) -> str:
    (process,) = of(layout, settings, **options)
    return process.line


def test_defaults_are_left_out() -> None:
    assert line(Layout()) == "vllm serve org/M"


def test_degrees() -> None:
    layout = Layout(tensor=2, pipeline=2, data=2, context=2, expert_parallel=True)
    assert line(Layout(tensor=2, context=4, prefill=2)) == (
        "vllm serve org/M --tensor-parallel-size 2 --decode-context-parallel-size 4 "
        "--prefill-context-parallel-size 2"
    )
    assert line(layout) == (
        "vllm serve org/M --tensor-parallel-size 2 --pipeline-parallel-size 2 "
        "--data-parallel-size 2 --decode-context-parallel-size 2 --enable-expert-parallel"
    )


def test_a_partition_is_a_variable_of_the_environment() -> None:
    layout = Layout(pipeline=2, partition=(33, 28))
    (process,) = of(layout)
    assert process.environment == {"VLLM_PP_LAYER_PARTITION": "33,28"}
    assert process.line == (
        "env VLLM_PP_LAYER_PARTITION=33,28 vllm serve org/M --pipeline-parallel-size 2"
    )


def test_settings_and_quotes() -> None:
    settings = ServerSettings(
        engine="vllm",
        max_num_batched_tokens=4096,
        attention_backend="FLASHINFER",
        block_size=32,
        enable_prefix_caching=False,
        disable_hybrid_kv_cache_manager=True,
        num_gpu_blocks_override=7,
        enforce_eager=True,
        limit_mm_per_prompt='{"image": 0}',
    )
    printed = line(Layout(), settings, **{"speculative-config": {"method": "mtp"}, "dtype": None})
    assert shlex.split(printed)[3:] == [
        *("--speculative-config", '{"method":"mtp"}', "--max-num-batched-tokens", "4096"),
        *("--attention-backend", "FLASHINFER", "--block-size", "32"),
        *("--no-enable-prefix-caching", "--disable-hybrid-kv-cache-manager"),
        *("--num-gpu-blocks-override", "7", "--enforce-eager"),
        *("--limit-mm-per-prompt", '{"image": 0}'),
    ]


def test_a_hostile_name_is_one_word() -> None:
    launch = Launch(model="/m/$(x); y 'z'", layout=Layout(), settings=DEFAULTS, node_gpus=8)
    (process,) = processes(launch)
    assert shlex.split(process.line) == ["vllm", "serve", "/m/$(x); y 'z'"]


def test_stages_and_tensor_groups_over_nodes() -> None:
    """--nnodes divides the ranks; all but the first node are headless (config/parallel.py:812)."""
    first, second = of(Layout(tensor=8, pipeline=2))
    assert first.line.endswith("--nnodes 2 --node-rank 0 --master-addr HEAD_NODE")
    assert second.line.endswith("--nnodes 2 --node-rank 1 --master-addr HEAD_NODE --headless")
    assert [process.gpus for process in of(Layout(tensor=12))] == [6, 6]


def test_data_parallel_ranks_over_nodes() -> None:
    """data_parallel_size_local of them a node, which start at a rank of their own."""
    first, second = of(Layout(tensor=2, data=8, expert_parallel=True))
    own = "--data-parallel-size-local 4 --data-parallel-address HEAD_NODE"
    assert first.line.endswith(own)
    assert second.line.endswith(f"{own} --data-parallel-start-rank 4 --headless")
    assert [process.gpus for process in of(Layout(data=12))] == [6, 6]


def test_ranks_larger_than_a_node_are_not_known() -> None:
    with pytest.raises(RefusedError, match="ranks of 16 GPUs span nodes of 8"):
        of(Layout(tensor=16, data=2))
