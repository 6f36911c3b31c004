"""What is asked: layouts by name, options that belong together, and how far a measurement is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import UsageError
from kvplan.measure.question import (
    MEASURED,
    CacheLayout,
    Kernel,
    Request,
    cache_layouts,
    check_options,
    default_context_tokens,
)
from tests.measure.samples import question


@pytest.mark.parametrize(
    ("names", "layouts"),
    [
        ([], [CacheLayout.ARITHMETIC]),
        (["vllm"], [CacheLayout.VLLM]),
        (["grown", "whole", "grown"], [CacheLayout.WHOLE, CacheLayout.GROWN]),
        (["all"], list(CacheLayout)),
        (["vllm", "all"], list(CacheLayout)),
    ],
)
def test_layouts_by_name(names: list[str], layouts: list[CacheLayout]) -> None:
    assert list(cache_layouts(names)) == layouts


@pytest.mark.parametrize("name", ["pages", "", "ALL", "x" * 1_000])
def test_a_layout_that_is_not_known(name: str) -> None:
    with pytest.raises(UsageError, match=f"--layout {name[:60]} is not known") as refusal:
        cache_layouts(["vllm", name])
    assert refusal.value.hint == "one of: arithmetic, vllm, whole, sequences, grown, all"


OPTIONS: dict[str, Any] = {
    "device": "cuda",
    "layouts": (CacheLayout.ARITHMETIC,),
    "block_size": None,
    "find_max": False,
    "reserve_weights": False,
    "decode": False,
    "kernel": Kernel.AUTO,
    "save": None,
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reserve_weights": True}, "--reserve-weights is for --find-max"),
        ({"kernel": Kernel.SDPA}, "--kernel is for --decode"),
        ({"block_size": 7}, "--block-size is for --layout vllm"),
        ({"save": "x.yaml", "device": "cpu"}, "and this is a CPU"),
        ({"save": "/no/such/folder/x.yaml"}, "its folder does not exist"),
        ({"save": "gpu.json"}, "--gpu reads files named"),
        ({"save": ""}, "--gpu reads files named"),
    ],
)
def test_options_that_lack_their_own(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(**{**OPTIONS, **options})


def test_a_folder_is_not_a_file_to_save_to(tmp_path: Path) -> None:
    folder = tmp_path / "gpu.yaml"
    folder.mkdir()
    with pytest.raises(UsageError, match="is not a file"):
        check_options(**{**OPTIONS, "save": str(folder)})


def test_options_that_belong_together(tmp_path: Path) -> None:
    check_options(**OPTIONS)
    check_options(
        device="cuda:1",
        layouts=(CacheLayout.ARITHMETIC, CacheLayout.VLLM),
        block_size=64,
        find_max=True,
        reserve_weights=True,
        decode=True,
        kernel=Kernel.TRITON,
        save=str(tmp_path / "gpu.yml"),
    )


def test_the_context_where_none_is_given() -> None:
    assert [default_context_tokens(device) for device in ("cpu", "cuda", "cuda:1")] == [
        1_024,
        131_072,
        131_072,
    ]


def test_limits_need_a_layout_that_is_allocated_at_once() -> None:
    asked = (question("llama3-70b"),)
    layouts = (CacheLayout.GROWN, CacheLayout.SEQUENCES)
    with pytest.raises(UsageError, match="allocated at once") as refusal:
        Request("cpu", asked, layouts, find_max=True)
    assert refusal.value.hint == "one of: arithmetic, vllm, whole"
    assert Request("cpu", asked, (*layouts, CacheLayout.WHOLE), find_max=True).find_max


def test_steps_are_all_that_is_measured() -> None:
    asked = tuple(question(model) for model in MEASURED)
    layouts = (CacheLayout.ARITHMETIC, CacheLayout.WHOLE)
    assert Request("cuda", asked).steps == 1 + 4  # the card, and four models
    assert Request("cuda", asked, layouts, find_max=True).steps == 1 + 4 * 3
    # the ceilings, four steps, and three of them once more in the same memory
    assert Request("cuda", asked, decode=True).steps == 1 + 4 + 1 + 7
    assert Request("cpu", asked, decode=True, ceilings=True).steps == 1 + 4 + 7
    assert Request("cuda", asked, ceilings=True).steps == 1 + 4 + 1
