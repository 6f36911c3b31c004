"""What releases of vLLM print, against the logs of real servers.

``logs.jsonl`` has a line a log: release, model, memory that vLLM found for the cache (rounded to
0.01 GiB), and the tokens and the concurrency that it printed of it. ``release`` is the one whose
rules hold where a development version, a fork or only a line of the source is named
(``logged_version``, ``source``). Where a log ``differs``, it says why.
"""

from __future__ import annotations

import json
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.calc import pack
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.engine import Vllm
from kvplan.engines.vllm.groups import group_layers
from kvplan.engines.vllm.layers import LayerPages
from kvplan.engines.vllm.pool import BlockPool
from kvplan.engines.vllm.versions import rules
from kvplan.errors import RefusedError
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.units import GIB

_LINES = (Path(__file__).parent / "logs.jsonl").read_text(encoding="utf-8").splitlines()
LOGS = [json.loads(line) for line in _LINES]
ROUNDING_GIB = 0.005
ANY_CONTEXT = 1_000
ALONE = Layout(1)
H100 = Gpu(name="h100", memory_bytes=80 * GIB, compute_capability="9.0")

Log = dict[str, Any]


def pool_of(
    model: str, settings: ServerSettings, layout: Layout = ALONE, gpu: Gpu = H100
) -> BlockPool:
    spec = kvplan.load(model)
    engine = Vllm(settings.engine_version.version)
    engine.check(spec, layout, settings, gpu)
    drafts = bool(settings.num_speculative_tokens)
    caches = engine.caches(pack(spec, settings.kv_cache_dtype, draft=drafts), settings, gpu)
    return engine.pool(caches, layout, settings, gpu)


def pool_of_log(log: Log) -> BlockPool:
    settings = ServerSettings(
        engine=f"vllm@{log['release']}",
        kv_cache_dtype=log.get("kv_cache_dtype", "auto"),
        max_num_batched_tokens=log.get("max_num_batched_tokens"),
        num_speculative_tokens=log.get("draft_tokens"),
    )
    layout = Layout(log.get("tensor", 1), context=log.get("context", 1))
    gpu = Gpu(
        name="logged",
        memory_bytes=log["memory_gib"] * GIB,
        compute_capability=log["compute_capability"],
    )
    return pool_of(log["model"], settings, layout, gpu)


def printed(pool: BlockPool, room_bytes: int, context_tokens: int) -> tuple[int, float]:
    pages = min(room_bytes // size for size in pool.stage_page_bytes)
    concurrency = pages / pool.pages(context_tokens)
    tokens = pool.printed_tokens(pages)
    return int(concurrency * context_tokens) if tokens is None else tokens, concurrency


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log['id']}-{log['release']}")
def test_tokens_are_those_of_the_logged_memory_to_its_rounding(log: Log) -> None:
    pool = pool_of_log(log)
    context = log.get("max_model_len", ANY_CONTEXT)
    least = printed(pool, ceil((log["available_gib"] - ROUNDING_GIB) * GIB), context)
    most = printed(pool, floor((log["available_gib"] + ROUNDING_GIB) * GIB), context)
    within = least[0] <= log["tokens"] <= most[0]
    assert within is ("differs" not in log)
    if within and "concurrency" in log:
        assert least[1] - 0.005 <= log["concurrency"] <= most[1] + 0.005


def test_the_check_before_0_29_counted_the_null_block_as_a_request_s() -> None:
    """v1/core/kv_cache_utils.py:979 of 0.29.0 takes it off the room; 0.28.0 has no such line."""
    older = pool_of("qwen3-coder-30b-a3b", ServerSettings(engine="vllm@0.15"))
    newer = pool_of("minimax-m2.7", ServerSettings(engine="vllm@0.29"), Layout(2))
    assert (older.reserved_pages, newer.reserved_pages) == (0, 1)


@pytest.mark.parametrize(
    ("release", "blocks"),
    # By hand: 8,192 tokens in 512 full blocks; the window's 127 + 8,192 tokens stop at 8,192: 513.
    # At 131,072: 8,192 full blocks; 127 + 8,192 tokens of a step take 520 + 1, 127 + 16,384 of two
    # 1,032 + 1.
    [("0.25", 8_192 + 521), ("0.26", 8_192 + 1_033)],
)
def test_windows_keep_the_tokens_of_one_step_or_of_two(release: str, blocks: int) -> None:
    pool = pool_of("gpt-oss-120b", ServerSettings(engine=f"vllm@{release}"))
    assert pool.pages(8_192) == 512 + 513
    assert pool.pages(131_072) == blocks


@pytest.mark.parametrize(
    ("release", "groups"),
    # 28 and 34 layers: 34 is less than 1.25 times 28. 10 and 14: less than 1.5 times 10.
    [
        ("0.11.0", [28, 17, 17]),
        ("0.12.0", [28, 34]),
        ("0.18.0", [28, 34]),
        ("0.11.0", [10, 7, 7]),
        ("0.17.1", [10, 7, 7]),
        ("0.18.0", [10, 14]),
    ],
)
def test_numbers_of_layers_that_differ_little_are_padded(release: str, groups: list[int]) -> None:
    full = LayerPages(kind="full", block_tokens=16, content_bytes=1 << 16)
    window = LayerPages(
        kind="sliding", block_tokens=16, content_bytes=1 << 16, window_tokens=1 << 10
    )
    layers = list(enumerate([full] * groups[0] + [window] * sum(groups[1:])))
    found = group_layers(layers, rules=rules(release))
    assert [len(group.layers) for group in found.groups] == groups


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ("gpt-oss-20b", {"engine": "vllm@0.9"}, "came in 0.10"),
        ("gemma4-26b-a4b", {"engine": "vllm@0.12"}, "came in 0.19"),
        ("deepseek-v4-flash", {"engine": "vllm@0.25"}, "are not known"),
        ("deepseek-v3.2", {"engine": "vllm@0.17"}, "index_keys"),
        ("llama3.1-8b", {"engine": "vllm@0.12", "kv_cache_dtype": "nvfp4"}, "no KV dtype"),
        ("jamba-v0.1", {"engine": "vllm@0.10"}, "recurrent states are not known"),
        ("gemma4-26b-a4b-nvfp4", {"engine": "vllm@0.11"}, "does not serve"),
    ],
)
def test_what_is_not_known_of_a_release_is_refused(
    model: str, settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        pool_of(model, ServerSettings(**settings))  # type: ignore[arg-type]
