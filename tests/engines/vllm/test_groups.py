"""Groups, blocks and capacity against vLLM's own answers.

``groups.jsonl`` has what vLLM 0.33.0's planning code said of layers that its model classes
registered (one line a different model, tensor-parallel size and KV dtype; no GPU was involved): the
layers' own figures go in, groups, blocks and tokens come out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.engines.vllm.groups import group_layers
from kvplan.engines.vllm.layers import LayerPages, Load
from kvplan.errors import RefusedError

_LINES = (Path(__file__).parent / "groups.jsonl").read_text(encoding="utf-8").splitlines()
ANSWERS = [json.loads(line) for line in _LINES]


def _layers(answer: dict[str, Any]) -> list[tuple[int, LayerPages]]:
    layers = []
    for number, kind in enumerate(answer["layers"]):
        own = {key: value for key, value in kind.items() if key != "layers"}
        pages = LayerPages(geometry=(number,), **own)
        layers += [pages] * kind["layers"]
    return list(enumerate(layers))


@pytest.mark.parametrize(
    "answer",
    ANSWERS,
    ids=lambda a: f"{a['model']}-tp{a['tp']}-{a['kv_cache_dtype']}-dcp{a['dcp']}",
)
def test_groups_blocks_and_tokens_are_vllms(answer: dict[str, Any]) -> None:
    layers = _layers(answer)
    groups = group_layers(layers, packed=answer["packed"], hybrid=answer["hybrid"])
    load = Load(
        context_tokens=answer["max_model_len"],
        in_flight_tokens=answer["in_flight_tokens"],
        context_parallel=answer["dcp"],
    )
    (block_bytes,) = groups.block_bytes((len(layers),))
    blocks = answer["available_bytes"] // block_bytes
    concurrency = blocks / groups.pages(load)
    assert [len(group.layers) for group in groups.groups] == answer["groups"]
    assert block_bytes == answer["block_bytes"]
    assert blocks == answer["blocks"]
    assert groups.pages(load) == answer["request_blocks"]
    assert int(concurrency * load.context_tokens) == answer["tokens"]
    assert concurrency == pytest.approx(answer["concurrency"], abs=1e-6)
    for tokens, expected in answer["blocks_by_length"].items():
        shorter = Load(
            context_tokens=int(tokens),
            in_flight_tokens=answer["in_flight_tokens"],
            context_parallel=answer["dcp"],
        )
        assert groups.pages(shorter) == expected


def _full(tokens: int, size: int, kind: str = "full", **more: Any) -> LayerPages:
    return LayerPages(kind=kind, block_tokens=tokens, content_bytes=size, **more)  # type: ignore[arg-type]


def test_without_the_hybrid_manager_windows_keep_every_token() -> None:
    """gpt-oss-120b, 40 GiB: 1,034,609 tokens with it, 582,528 without (vLLM 0.33.0)."""
    window = _full(16, 32_768, "sliding", window_tokens=128)
    layers = [(i, _full(16, 32_768) if i % 2 else window) for i in range(36)]
    load = Load(context_tokens=131_072, in_flight_tokens=16_384)
    groups = group_layers(layers, hybrid=False)
    (block_bytes,) = groups.block_bytes((36,))
    blocks = (40 << 30) // block_bytes
    assert len(groups.groups) == 1
    assert int(blocks / groups.pages(load) * 131_072) == 582_528


def test_stages_have_blocks_of_their_own_layers() -> None:
    """Dealing layers out in turn leaves every stage a share of each group (planning.py:541).

    12 full and 24 windowed layers in two stages: three groups of 12, six of each on a stage.
    """
    window = _full(16, 100, "sliding", window_tokens=128)
    layers = [(i, _full(16, 100) if i % 3 == 0 else window) for i in range(36)]
    groups = group_layers(layers)
    assert [len(group.layers) for group in groups.groups] == [12, 12, 12]
    assert groups.block_bytes((18, 36)) == (600, 600)
    assert groups.block_bytes((12, 36)) == (400, 800)


def test_a_latent_beside_a_window_of_another_page_gets_room_for_all_tokens() -> None:
    """An MLA model with a drafter that slides: _try_get_full_allocation_fallback_groups."""
    window = _full(16, 20_000, "sliding", window_tokens=4_096, geometry=("draft",))
    layers = [(0, _full(16, 18_432, "mla")), (1, window)]
    groups = group_layers(layers)
    assert len(groups.groups) == 1
    assert groups.block_bytes((2,)) == (38_432,)
    assert groups.pages(Load(context_tokens=160, in_flight_tokens=16)) == 10


def test_latents_that_cannot_be_made_one_size_are_refused() -> None:
    window = _full(16, 10_000, "sliding_mla", window_tokens=128)
    with pytest.raises(RefusedError, match="page size is not divisible"):
        group_layers(
            [
                (0, _full(16, 18_432, "mla")),
                (1, _full(16, 7_000, "mla", is_shared=False)),
                (2, window),
            ]
        )
