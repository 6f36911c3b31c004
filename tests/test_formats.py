"""Bytes of a row in each KV dtype, quoted from the engines' sources."""

from __future__ import annotations

import pytest

from kvplan.errors import RefusedError, UsageError
from kvplan.formats import FORMATS, INDEX_FORMATS, cache_format


@pytest.mark.parametrize(
    ("name", "row_bytes"),
    [
        ("bf16", 256),
        ("fp16", 256),
        ("fp32", 512),
        ("fp8", 128),
        ("fp8_e4m3", 128),
        ("fp8_e5m2", 128),
        # vLLM: D + 4 for each of key and value, D/2 + 4 for int4
        ("int8_per_token_head", 132),
        ("fp8_per_token_head", 132),
        ("int4_per_token_head", 68),
        # vLLM: D/2 + D/16
        ("nvfp4", 72),
        # SGLang: + 1/32
        ("mxfp8", 132),
        # llama.cpp: four blocks of 32
        ("q8_0", 136),
        ("q5_1", 96),
        ("q5_0", 88),
        ("q4_1", 80),
        ("q4_0", 72),
        ("iq4_nl", 72),
    ],
)
def test_a_row_of_128(name: str, row_bytes: int) -> None:
    assert cache_format(name).packing("key", 128).row_bytes(128) == row_bytes


@pytest.mark.parametrize(
    ("name", "entry_bytes"),
    [
        ("bf16", 1152),
        ("fp8", 576),
        ("int8_per_token_head", 584),
        ("int4_per_token_head", 296),
        ("nvfp4", 324),
        ("fp8_ds_mla", 656),
        ("nvfp4_ds_mla", 352),
        ("q8_0", 612),
    ],
)
def test_an_mla_entry_of_512_and_64(name: str, entry_bytes: int) -> None:
    row = cache_format(name)
    latent = row.packing("latent", 512).row_bytes(512)
    assert latent + row.packing("rope_key", 64).row_bytes(64) == entry_bytes


def test_a_deepseek_v4_entry_is_584_bytes() -> None:
    row = cache_format("fp8_ds_mla")
    nope = row.packing("shared_kv", 448).row_bytes(448)
    assert nope + row.packing("rope_key", 64).row_bytes(64) == 584


@pytest.mark.parametrize(("name", "row_bytes"), [("dsa_index", 132), ("mxfp4", 68)])
def test_an_index_key_of_128(name: str, row_bytes: int) -> None:
    """vllm-project/vllm#48558: 132 to 68 B a token and layer."""
    assert INDEX_FORMATS[name].packing("index_key", 128).row_bytes(128) == row_bytes


@pytest.mark.parametrize(("name", "instead"), [("fp8_ds_mla", "fp8"), ("nvfp4_ds_mla", "nvfp4")])
def test_a_latent_without_a_rotary_key_is_no_record(name: str, instead: str) -> None:
    record = cache_format(name)
    record.check_record(["latent", "rope_key"])
    record.check_record(["shared_kv", "rope_key"])
    with pytest.raises(RefusedError, match="keeps no rope key") as refused:
        record.check_record(["latent"])
    assert instead in (refused.value.hint or "")


def test_odd_rows_are_rounded_up_to_bytes() -> None:
    assert cache_format("int4_per_token_head").packing("key", 5).row_bytes(5) == 7  # 20 + 32 bits


@pytest.mark.parametrize(
    ("name", "role", "width", "problem"),
    [
        ("fp8_ds_mla", "key", 128, "has no layout for the key"),
        ("fp8_ds_mla", "latent", 256, "a latent of 512 elements, not 256"),
        ("nvfp4_ds_mla", "shared_kv", 448, "has no layout for the shared kv"),
        ("q8_0", "key", 80, "blocks of 32"),
        ("nvfp4", "key", 120, "blocks of 16"),
    ],
)
def test_layouts_that_no_engine_has_are_refused(
    name: str, role: str, width: int, problem: str
) -> None:
    with pytest.raises(RefusedError, match=problem):
        cache_format(name).packing(role, width)


@pytest.mark.parametrize(("alias", "name"), [("bfloat16", "bf16"), ("HALF", "fp16")])
def test_vllms_names_are_known(alias: str, name: str) -> None:
    assert cache_format(alias).name == name


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        cache_format("fp8_e4m4")
    assert "fp8_e4m3" in str(caught.value.hint)


def test_every_format_names_its_source() -> None:
    assert all(row.source for row in FORMATS.values())
