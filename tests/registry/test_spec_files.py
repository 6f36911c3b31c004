"""A user's YAML file: every problem at once with file and line, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvplan
from kvplan.errors import SpecError

GOOD = """\
name: mine
source: my own notes
native_context_tokens: 4096
dtype: bf16
groups:
  - layers: 2
    kind: full_attention
    num_attention_heads: 8
    num_key_value_heads: 2
    head_dim: 64
"""

HYBRID = """\
name: hybrid
source: my own notes
native_context_tokens: 4096
dtype: bf16
layers: 7
pattern: [local*2, global, mlp]
groups:
  - name: local
    caches:
      - {kind: sliding_window, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 64,
         sliding_window: 128}
  - {name: global, kind: full_attention, num_attention_heads: 8, num_key_value_heads: 1,
     head_dim: 64}
  - {name: mlp, caches: []}
"""


SPARSE = """\
name: sparse
source: my own notes
native_context_tokens: 1048576
dtype: bf16
layers: 45
pattern: [kda*3, dsa]
groups:
  - {name: kda, kind: kimi_delta_attention, num_heads: 64, head_dim: 128, conv_kernel: 4}
  - name: dsa
    caches:
      - {kind: mla, num_attention_heads: 64, kv_lora_rank: 512, qk_rope_head_dim: 0,
         qk_nope_head_dim: 256, v_head_dim: 256}
      - {kind: index_keys, index_head_dim: 128, compress_ratio: 4}
      - {kind: pool_tail, width: 256, tokens: 4}
"""

STATE = """\
name: recurrent
source: my own notes
native_context_tokens: null
dtype: bf16
groups:
  - {layers: 10, kind: state, elements: 1048576, heads: 64}
  - {layers: 2, kind: state, elements: 3000, state_dtype: model}
"""


def load(tmp_path: Path, text: str | bytes) -> kvplan.ModelSpec:
    path = tmp_path / "my.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return kvplan.load(path)


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.message.splitlines()]


def test_a_small_spec_is_enough(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD)
    assert kvplan.footprint(spec, 4096).bytes_per_token == 2 * 2 * 2 * 64 * 2
    assert spec.weights_bytes is None


def test_a_pattern_is_repeated_over_the_layers(tmp_path: Path) -> None:
    spec = load(tmp_path, HYBRID)
    assert spec.layer_names() == ("local", "local", "global", "mlp", "local", "local", "global")
    assert (spec.total_layers, spec.cached_layers) == (7, 6)
    result = kvplan.footprint(spec, 4096)
    assert result.bytes_per_token == 2 * (2 * 64 * 2)
    assert result.fixed_bytes_per_sequence == 4 * 128 * (2 * 2 * 64 * 2)


def test_the_file_goes_wherever_a_name_goes(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(GOOD)
    assert kvplan.compare([str(path), "llama3-8b"], 4096).rows[0].spec.name == "mine"


def test_all_problems_come_at_once_unknown_keys_first(tmp_path: Path) -> None:
    text = """\
nmae: mine
source: notes
native_context_tokens: yes
dtype: bf17
groups:
  - layers: 1000000000000000000
    kind: mla
    num_attention_head: 3
    kv_lora_rank: -1
    qk_rope_head_dim: .nan
    qk_nope_head_dim: 1e6
    v_head_dim: 010
  - layers: 2
    kind: mle
"""
    assert problems(tmp_path, text) == [
        "my.yaml:1: unknown key 'nmae'; did you mean name?",
        "my.yaml:8: unknown key 'num_attention_head'; did you mean num_attention_heads?",
        "my.yaml:1: name: is missing",
        "my.yaml:3: native_context_tokens: has to be a whole number, not 'yes'",
        "my.yaml:4: dtype: has to be bf16, fp16 or fp32, not 'bf17'",
        "my.yaml:6: groups.0.layers: has to be at most 10,000, not 1000000000000000000",
        "my.yaml:6: groups.0.num_attention_heads: is missing",
        "my.yaml:9: groups.0.kv_lora_rank: has to be more than 0, not -1",
        "my.yaml:10: groups.0.qk_rope_head_dim: has to be a whole number, not '.nan'",
        "my.yaml:11: groups.0.qk_nope_head_dim: has to be a whole number, not '1e6'",
        "my.yaml:12: groups.0.v_head_dim: has to be a whole number, not '010'",
        "my.yaml:14: groups.1.kind: no kind of cache is called 'mle'; did you mean mla?",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("num_key_value_heads: 2", "num_key_value_heads: 3"), "8 attention heads cannot share 3"),
        (("layers: 2\n", "\n"), "every group needs its number of layers"),
        (("dtype: bf16", "dtype: bf16\nlayers: 3"), "layers is 3, but the groups have 2"),
        (("dtype: bf16", "dtype: bf16\npattern: [a]"), "a pattern needs layers"),
        (("layers: 2", "layers: true"), "has to be a whole number, not True"),
        (("layers: 2", "layers: 2.0"), "has to be a whole number, not 2.0"),
        (("layers: 2", "layers: '2'"), "has to be a whole number, not '2'"),
        (("layers: 2", "layers: 0"), "more than 0, not 0"),
        (("layers: 2", "layers: .inf"), "has to be a whole number, not '.inf'"),
        (("layers: 2", "layers: " + "9" * 5000), "has to be a whole number"),
        (("name: mine", "name: 7"), "name: has to be text, not 7"),
        (("name: mine", "name: ''"), "name: has to be text, and not empty, not ''"),
        (("name: mine", "name: mine\nname: yours"), "'name' is given twice (first on line 1)"),
        (("name: mine", "name: &a mine"), "anchors and aliases are not used"),
        (("name: mine", "name: *a"), "anchors and aliases are not used"),
        (("name: mine", "name: !!python/name:os.system x"), "is not used in specs"),
        (("name: mine", "? [a]\n: b"), "a list or mapping cannot be a key"),
        (("name: mine", "<<: {a: b}\nname: mine"), "unknown key '<<'"),
        (("name: mine", "name: [mine"), "not YAML"),
        (("name: mine", "\tname: mine"), "not YAML"),
        ((GOOD[GOOD.index("groups:") :], "groups: []"), "name at least one group"),
        (("    kind: full_attention\n", ""), "groups.0: kind is missing"),
        (("dtype: bf16", "dtype: bf16\nkv_cache_dtype: fp9"), "no KV cache dtype is called 'fp9'"),
        (("head_dim: 64", "head_dim: 64\n    caches: []"), "unknown key 'kind'"),
        (("dtype: bf16", "dtype: bf16\nlayers: 3\npattern: [a*0]"), "with a pattern"),
        (("dtype: bf16", "dtype: bf16\naliases: x"), "aliases: has to be a list, not 'x'"),
        (("  - layers: 2", "  - 7\n  - layers: 2"), "groups.0: has to be a mapping, not 7"),
        (
            (
                "dtype: bf16",
                "dtype: bf16\ndraft: [{name: a, kind: short_conv, channels: 1, conv_kernel: 2}]",
            ),
            "every draft group needs its number of layers",
        ),
        (
            (
                "dtype: bf16",
                "dtype: bf16\ndraft_weights: [{part: norm, dtype: bf16, elements: 8}]",
            ),
            "draft_weights need draft",
        ),
        (
            ("dtype: bf16", "dtype: bf16\ndraft_weights: [{part: norm, dtype: bf16, element: 8}]"),
            "unknown key 'element'; did you mean elements?",
        ),
        (
            ("dtype: bf16", "dtype: bf16\nexpert_intermediate_size: 0"),
            "expert_intermediate_size: has to be more than 0, not 0",
        ),
        (("head_dim: 64", "head_dim: 64\n---\nname: b"), "a second document"),
    ],
)
def test_one_wrong_thing_is_named_with_its_place(
    tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    found = problems(tmp_path, GOOD.replace(*change, 1))
    assert any(problem in line for line in found)
    assert all(line.startswith("my.yaml:") for line in found)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (b"# nothing\n", "empty"),
        (b"\x00\x01\x02\xff\xfe", "not a text file"),
        (b"name: \x00", "not YAML"),
        (GOOD.encode("utf-16"), "not a text file"),
        (b"just words", "has to be a mapping of keys, not text"),
        (b"[1, 2]", "has to be a mapping of keys, not a list"),
        (b"a: " + b"[" * 45 + b"]" * 45, "nested deeper than 40 levels"),
        (b"a: " + b"[" * 100_000, "my.yaml:1: "),
        (b"a: [" + b"1," * 200_000 + b"]", "more than 50,000 values"),
        (b"a: " + b"x" * 2_000_000, "larger than"),
    ],
)
def test_files_that_are_no_specs(tmp_path: Path, content: bytes, problem: str) -> None:
    assert problem in problems(tmp_path, content)[0]


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(kvplan.UsageError, match=r"holds no config\.json"):
        kvplan.load(tmp_path)
    with pytest.raises(SpecError, match="No such file"):
        kvplan.load(tmp_path / "no.yaml")


def test_windows_line_ends_and_a_byte_order_mark_are_no_problem(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()
    assert load(tmp_path, text).name == "mine"


def test_a_repetition_of_nothing_is_a_name_that_no_group_has(tmp_path: Path) -> None:
    text = HYBRID.replace("[local*2, global, mlp]", "[local*0, global, mlp]")
    assert "the pattern names no such group: local*0" in problems(tmp_path, text)[0]


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + "".join(f"odd{i}: 1\n" for i in range(100)))
    assert len(found) == 31
    assert found[-1].endswith("and 70 more")


def test_auto_in_a_spec_is_the_models_own_dtype(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD.replace("dtype: bf16", "dtype: bf16\nkv_cache_dtype: auto"))
    assert kvplan.footprint(spec, 1).kv_cache_dtype == "bf16"


def test_latents_without_a_rotary_key_and_pooled_index_keys_can_be_said(tmp_path: Path) -> None:
    """GLM-5.3-Flash: 11 x 512 x 2 B + 11 x 132 B / 4 (LMCache issue 5042), 11 tails of 2,048 B."""
    result = kvplan.footprint(load(tmp_path, SPARSE), 131_072)
    assert result.bytes_per_token == 11_627
    assert result.fixed_bytes_per_sequence == 147_619_840 + 11 * 2_048


def test_index_keys_in_mxfp4_can_be_said(tmp_path: Path) -> None:
    """64 B and 4 B of scales a key (vllm issue 48558): 21 of them are 1,428 B for a token."""
    keys = "{kind: index_keys, index_head_dim: 128, index_dtype: mxfp4}"
    text = GOOD.partition("  - layers")[0] + f"  - {{layers: 21, caches: [{keys}]}}\n"
    assert kvplan.footprint(load(tmp_path, text), 4_096).bytes_per_token == 1_428


def test_any_state_can_be_said(tmp_path: Path) -> None:
    spec = load(tmp_path, STATE)
    whole, rank = kvplan.footprint(spec, 64), kvplan.footprint(spec, 64, tensor_parallel=8)
    assert whole.bytes_per_token == 0
    assert whole.fixed_bytes_per_sequence == 10 * 1_048_576 * 4 + 2 * 3_000 * 2
    assert rank.fixed_bytes_per_sequence == 10 * 131_072 * 4 + 2 * 3_000 * 2
    assert spec.attention == ("state",)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("qk_rope_head_dim: 0", "qk_rope_head_dim: -1", "has to be at least 0, not -1"),
        ("compress_ratio: 4", "compress_ratio: 4, index_dtype: int2", "not 'int2'"),
        ("tokens: 4", "tokens: 0", "has to be more than 0, not 0"),
    ],
)
def test_what_a_sparse_layer_cannot_be_is_said(
    tmp_path: Path, before: str, after: str, problem: str
) -> None:
    (said,) = problems(tmp_path, SPARSE.replace(before, after))
    assert problem in said


def test_a_state_says_what_is_divided(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, STATE.replace("heads: 64", "split: divide"))
    assert "split: divide needs heads" in said


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("  - {layers: 1, caches: []}\n" * 256, "groups: 257 of them, more than 256"),
        (
            f"weights: [{'{dtype: bf16, elements: 8}, ' * 1_001}]\n",
            "weights: 1,001 of them, more than 1,000",
        ),
        (
            f"  - {{layers: 1, caches: [{'{kind: state, elements: 8}, ' * 17}]}}\n",
            "caches: 17 of them, more than 16",
        ),
    ],
)
def test_lists_are_no_longer_than_any_models(tmp_path: Path, more: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        load(tmp_path, GOOD + more)
