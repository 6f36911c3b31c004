"""The commands as people and scripts meet them: exit codes, streams, JSON keys, every format."""

from __future__ import annotations

import csv
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.command_line import cells

if TYPE_CHECKING:
    from tests.command_line import Run


def answer(run: Run, *arguments: str) -> dict[str, Any]:
    """The JSON answer of a command that has one."""
    document: dict[str, Any] = run(*arguments, "--json").document
    return document


def test_the_first_command_of_the_readme(run: Run) -> None:
    result = run("compare", "llama3-70b", "deepseek-v3", "--ctx", "128k")
    assert result.returncode == 0
    answer, *table = cells(result.stdout)
    assert " ".join(answer) == (
        "deepseek-v3 keeps 8.58 GiB for 1 sequence × 131,072 tokens, 4.66× less than llama3-70b "
        "(40.00 GiB); llama3-70b needs the fewest GPUs, 4 × h100-sxm-80gb (TP4)."
    )
    assert table == cells("""
        On h100-sxm-80gb (79.18 GiB each)
        Model        Attention  KV dtype  Layers  B/token  Fixed/seq   KV cache  of MHA    vs first     Weights  GPUs  Layout   Max ctx  Verdict
        llama3-70b   GQA        bf16          80  327,680          –  40.00 GiB   12.5%          1×  131.42 GiB     4  TP4      493,588  fewest GPUs
        deepseek-v3  MLA        bf16          61   70,272          –   8.58 GiB   1.41%  4.66× less  626.92 GiB    16  PP2×TP8  908,642  least cache
    """)  # noqa: E501
    assert "beyond its native context of 8,192" in result.stderr


def test_a_narrow_terminal_gets_one_table_without_its_least_columns(run: Run) -> None:
    asked = ("compare", "llama3-70b", "deepseek-v3")
    wide = run(*asked, columns=160).stdout
    narrow = run(*asked, columns=80).stdout
    for text in (wide, narrow):
        (header,) = (line for line in text.splitlines() if line.startswith("Model "))
        for title in ("Attention", "B/token", "KV cache", "GPUs", "Layout", "Max ctx"):
            assert title in header
    assert "KV dtype" in wide
    assert "not shown: KV dtype, Layers" in " ".join(narrow.split())
    assert run(*asked, "--wide", columns=80).stdout == run(*asked).stdout


def test_a_pipe_gets_one_line_a_row(run: Run) -> None:
    lines = run("list", "models").stdout.splitlines()
    names = [model["name"] for model in answer(run, "list", "models")["models"]]
    assert [line.split()[0] for line in lines[3:]] == names  # title, header, rule


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "deepseek-v4-pro"),
        ("show", "nemotron-h-56b"),
        ("list", "models"),
        ("list", "gpus"),
        ("list", "formats"),
        (
            "compare",
            "deepseek-v4-pro",
            "qwen3-next-80b-a3b",
            "llama3.2-90b-vision",
            "whisper-large-v3",
        ),
    ],
)
def test_no_line_is_wider_than_the_terminal(
    run: Run, arguments: tuple[str, ...], columns: int
) -> None:
    result = run(*arguments, columns=columns)
    assert max(map(len, result.stdout.splitlines())) <= columns


def test_compare_json_keeps_the_contract(run: Run) -> None:
    document = answer(run, "compare", "llama3-70b", "deepseek-v3", "--ctx", "128k")
    assert document["schema_version"] == 1
    assert document["command"] == "compare"
    assert document["inputs"]["context_tokens"] == 131_072
    assert document["inputs"]["gpu"]["memory_bytes"] == 85_017_493_504
    llama, deepseek = document["models"]
    assert {
        "name": "llama3-70b",
        "attention": ["GQA"],
        "native_context_tokens": 8_192,
        "kv_cache_dtype": "bf16",
        "bytes_per_token": 327_680,
        "fixed_bytes_per_sequence": 0,
        "kv_bytes": 42_949_672_960,
        "mha_ratio": 0.125,
        "weights_bytes": 141_107_412_992,
        "gpu_count": 4,
        "max_context_tokens": 493_588,
        "nearest": None,
    }.items() <= llama.items()
    assert llama["source"]
    assert llama["layout"]["name"] == "TP4"
    assert llama["warnings"] == [
        "131,072 tokens is beyond its native context of 8,192; sized all the same"
    ]
    assert document["warnings"] == [f"llama3-70b: {llama['warnings'][0]}"]
    assert deepseek["mha_ratio"] == pytest.approx(70_272 / 4_997_120)
    assert deepseek["ratio_to_first"] == pytest.approx(70_272 / 327_680)
    assert deepseek["warnings"] == []


def test_show_json_keeps_the_contract(run: Run) -> None:
    document = answer(run, "show", "deepseek-v4-pro")
    assert document["name"] == "deepseek-v4-pro"
    assert document["layers"] == document["cached_layers"] == 61
    assert document["bytes_per_token"] == 5511.4375
    assert document["fixed_bytes_per_sequence"] == 128 * 584 * 61 + 18_710_528
    assert document["parameters"] == {
        "total": 1_572_997_179_491,
        "active": 49_779_058_787,
        "language": 1_572_997_179_491,
        "towers": 0,
    }
    assert {"kind", "layers", "formula", "bytes_per_token", "fixed_bytes_per_sequence"} <= set(
        document["groups"][0]
    )
    assert sum(group["bytes_per_token"] for group in document["groups"]) == 5511.4375
    assert (
        answer(run, "show", "deepseek-v4-pro", "--kv-cache-dtype", "bf16")["bytes_per_token"]
        == 8918
    )


def test_list_json_lists_and_filters(run: Run) -> None:
    models = answer(run, "list", "models")["models"]
    assert len(models) >= 70
    latent = answer(run, "list", "--kind", "MLA")["models"]
    assert {"deepseek-v3", "kimi-linear-48b-a3b"} <= {model["name"] for model in latent}
    assert "llama3-70b" not in {model["name"] for model in latent}
    assert {"h100-sxm-80gb"} <= {gpu["name"] for gpu in answer(run, "list", "gpus")["gpus"]}
    assert {"fp8_ds_mla"} <= {row["name"] for row in answer(run, "list", "formats")["formats"]}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("compare", "llama3-70b"), 0),
        (("compare", "llama3-70b", "--gpus", "4"), 0),
        (("compare", "llama3-70b", "--gpus", "2"), 1),
        (("compare", "llama3-70b", "-tp", "2", "--gpus", "8"), 1),
        (("compare", "llama3-70b", "--gpus", "6"), 0),
        (("compare", "llama3-70b", "--gpu", "t4"), 0),
        (("compare", "deepseek-v3", "--gpu", "t4", "--ctx", "1000M"), 1),
        (("compare", "nobody-knows-this"), 2),
        (("compare", "llama3-70b", "--ctx", "0"), 2),
        (("compare", "llama3-70b", "--ctx", "lots"), 2),
        (("compare", "llama3-70b", "--sequences", "0"), 2),
        (("compare", "llama3-70b", "--sequences", "many"), 2),
        (("compare", "llama3-70b", "--gpu", "h1000"), 2),
        (("compare", "llama3-70b", "--gpus", "12", "-tp", "8"), 2),
        (("compare", "llama3-70b", "--kv-cache-dtype", "fp9"), 2),
        (("compare", "llama3-70b", "deepseek-v3", "--variants"), 2),
        (("compare", "mamba2-2.7b", "--variants"), 2),
        (("compare",), 2),
        (("compare", "llama3-70b", "--format", "xml"), 2),
        (("compare", "llama3-70b", "--no-such-option"), 2),
        (("no-such-command",), 2),
        (("list", "--kind", "no-such-kind"), 2),
        (("compare", "llama3-70b", "--kv-cache-dtype", "fp8_ds_mla"), 3),
        (("show", "stablelm-3b", "--kv-cache-dtype", "q8_0"), 3),
        (("--version",), 0),
        ((), 0),
    ],
)
def test_exit_codes(run: Run, arguments: tuple[str, ...], code: int) -> None:
    result = run(*arguments)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    if code >= 2:
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) <= 2


def test_what_does_not_fit_is_answered_all_the_same(run: Run) -> None:
    """Half the weights, 1 GiB of overhead and 92% of 85,017,493,504 B leave room for 26,427."""
    result = run("compare", "llama3-70b", "-tp", "2", "--overhead", "1GiB", "--json")
    (row,) = result.document["models"]
    room = int(0.92 * 85_017_493_504) - 70_555_025_408 - 2**30
    assert result.returncode == 1
    assert row["gpu_count"] is row["layout"] is None
    assert row["nearest"]["layout"]["name"] == "TP2"
    assert row["nearest"]["missing_bytes"] == 20 * 2**30 - room
    assert row["max_context_tokens"] == room // 163_840
    assert "does not fit: caches need 20.00 GiB on each of 2" in row["warnings"][-1]


def test_the_same_mistake_has_the_same_code_and_sentence(run: Run) -> None:
    for flags in (("-tp", "3"), ("-tp", "8", "--gpus", "12"), ("-pp", "81"), ("-dcp", "2")):
        results = [run(command, "llama3-70b", *flags) for command in ("plan", "compare")]
        assert {result.returncode for result in results} == {2}
        assert len({result.stderr for result in results}) == 1
        assert flags[0] in results[0].stderr or "81 pipeline stages" in results[0].stderr


def test_contexts_and_their_longer_name_are_the_same(run: Run) -> None:
    for flag, text in (("--ctx", "128k"), ("--max-model-len", "131072"), ("--ctx", "128Ki")):
        assert (
            answer(run, "compare", "llama3-8b", flag, text)["inputs"]["context_tokens"] == 131_072
        )


def test_windows_and_states_alone_leave_the_context_unbounded(run: Run) -> None:
    row = answer(run, "compare", "mamba2-2.7b")["models"][0]
    assert (row["max_context_tokens"], row["mha_ratio"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "dtypes", "bytes_per_token"),
    [
        # a layout for latents stands beside plain keys and values of the same bits
        (
            ("deepseek-v3.2", "--kv-cache-dtype", "fp8_ds_mla"),
            ["fp8", "fp8", "fp8", "fp8_ds_mla"],
            [2_498_560, 156_160, 19_520, 48_068],
        ),
        (
            ("qwen3-235b-a22b-nvfp4",),
            ["fp8", "fp8", "fp8", "fp8"],
            [1_540_096, 192_512, 24_064, 96_256],
        ),
    ],
)
def test_variants_are_compared_in_one_kv_dtype(
    run: Run, arguments: tuple[str, ...], dtypes: list[str], bytes_per_token: list[int]
) -> None:
    rows = answer(run, "compare", *arguments, "--variants")["models"]
    assert [row["kv_cache_dtype"] for row in rows] == dtypes
    assert [row["bytes_per_token"] for row in rows] == bytes_per_token
    assert rows[0]["mha_ratio"] == 1


def test_draft_layers_stand_on_both_sides_of_a_ratio(run: Run) -> None:
    plain = answer(run, "compare", "deepseek-v3")["models"][0]
    draft = answer(run, "compare", "deepseek-v3", "--draft")["models"][0]
    assert draft["kv_bytes"] * 61 == plain["kv_bytes"] * 62
    assert draft["mha_ratio"] == plain["mha_ratio"]


def test_a_model_that_keeps_nothing_is_shown_all_the_same(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(
        "name: none\nsource: notes\nnative_context_tokens: null\ndtype: bf16\n"
        "groups: [{layers: 4, caches: []}]\n"
    )
    rows = answer(run, "compare", str(path), "llama3-8b")["models"]
    assert [row["ratio_to_first"] for row in rows] == [None, None]
    assert rows[0]["mha_ratio"] is None
    for output in ("table", "markdown", "csv"):
        assert run("show", str(path), "--format", output).returncode == 0


def test_a_name_cannot_forge_a_line_of_its_own(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "forged.yaml"
    path.write_text(
        'name: "x\\nerror: out of memory"\nsource: notes\nnative_context_tokens: null\n'
        "dtype: bf16\ngroups: [{layers: 4, caches: []}]\n"
    )
    assert not any(
        line.startswith("error") for line in run("compare", str(path)).stderr.splitlines()
    )


@pytest.mark.parametrize("columns", [0, 20, 60, 80, 100])
def test_numbers_are_never_broken(run: Run, columns: int) -> None:
    result = run(
        "compare", "deepseek-v4-pro", "qwen3-next-80b-a3b", "gpt-oss-120b", columns=columns
    )
    for whole in ("deepseek-v4-pro", "5,511.4375", "36,864", "711.12 MiB", "4.50 GiB"):
        assert whole in result.stdout


def test_variants_show_one_model_in_four_designs(run: Run) -> None:
    rows = answer(run, "compare", "deepseek-v3", "--variants")["models"]
    assert [row["name"] for row in rows] == ["as MHA", "as GQA-8", "as MQA", "deepseek-v3"]
    assert [row["bytes_per_token"] for row in rows] == [4_997_120, 312_320, 39_040, 70_272]


def test_markdown_is_a_table(run: Run) -> None:
    answer, *lines = run("compare", "llama3-70b", "--format", "markdown").stdout.splitlines()
    assert answer.startswith("llama3-70b ")
    titles, rules, row = [line for line in lines if line.startswith("|")]
    assert titles.startswith("| Model | Attention |")
    assert set(rules) <= set("|:- ")
    assert row.startswith("| llama3-70b | GQA |")


def test_csv_has_the_contracts_keys_and_raw_numbers(run: Run) -> None:
    text = run("compare", "llama3-70b", "deepseek-v3", "--format", "csv").stdout
    rows = list(csv.DictReader(StringIO(text)))
    assert rows[0]["bytes_per_token"] == "327680"
    assert rows[1]["kv_bytes"] == "9210691584"


def test_text_of_a_spec_is_shown_and_not_obeyed(run: Run, tmp_path: Path) -> None:
    name = "=1+1|[bold red]x[/bold red]\\e[31m"
    path = tmp_path / "odd.yaml"
    path.write_text(
        f'name: "{name}"\nsource: "line\\nbreak"\nnative_context_tokens: null\ndtype: bf16\n'
        "groups:\n  - {layers: 1, kind: full_attention, num_attention_heads: 1,"
        " num_key_value_heads: 1, head_dim: 8}\n"
    )
    table = run("compare", str(path), columns=200).stdout
    assert "=1+1|[bold red]x[/bold red]\\x1b[31m" in table
    assert "\x1b" not in table
    markdown = run("compare", str(path), "--format", "markdown").stdout
    assert "=1+1\\|\\[bold red\\]" in markdown
    assert "'=1+1|[bold red]" in run("compare", str(path), "--format", "csv").stdout
    assert (
        answer(run, "compare", str(path))["models"][0]["name"]
        == "=1+1|[bold red]x[/bold red]\x1b[31m"
    )


def test_an_unknown_model_is_answered_with_the_nearest(run: Run) -> None:
    assert "did you mean deepseek-v3" in run("show", "deepsek-v3").stderr


def test_planning_never_loads_torch_or_a_hub() -> None:
    for command in ("compare llama3-70b deepseek-v3", "show deepseek-v3", "list models"):
        program = (
            f"import sys; sys.argv = 'kvplan {command}'.split()\n"
            "from kvplan.cli.app import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'transformers', 'huggingface_hub', 'pydantic'} & set(sys.modules)\n"
            "print(sorted(heavy), file=sys.stderr)"
        )
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert result.stderr.splitlines()[-1] == "[]"


def test_importing_kvplan_loads_nothing_heavy() -> None:
    program = "import sys, kvplan; print(sorted({'yaml', 'rich', 'typer'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_a_comparison_says_who_is_least_in_the_row(run: Run) -> None:
    """gpt-oss-120b keeps 36,864 B a token (and windows); 60.77 GiB of weights fit on one card."""
    names = ("llama3.3-70b", "gpt-oss-120b", "kimi-k2")
    rows = answer(run, "compare", *names, "--ctx", "128k")["models"]
    assert [row["least"] for row in rows] == [[], ["kv_bytes", "gpu_count"], []]
    last = run("compare", *names, "--ctx", "128k").stdout.splitlines()[-2]
    assert last.endswith("least cache, fewest GPUs")
    same = answer(run, "compare", "llama3.1-70b", "llama3.3-70b")["models"]
    assert [row["least"] for row in same] == [[], []]


def test_a_sentence_goes_before_the_table_and_notes_after_it(run: Run) -> None:
    asked = ("plan", "llama3.3-70b", "--gpu", "h100", "--ctx", "32k", "--sequences", "16")
    fits = run(*asked)
    assert fits.stdout.startswith("llama3.3-70b fits on 8 × h100-sxm-80gb (TP8): 16 sequences")
    assert fits.stderr == "note: --verbose explains: overhead, decode step\n"
    assert run(*asked, "--quiet").stderr == ""
    assert run(*asked, "--verbose").stderr.count("note: ") == 2
    unfit = run(*asked, "--gpus", "1")
    first, advice = unfit.stdout.splitlines()[:2]
    assert unfit.returncode == 1
    assert first.startswith("llama3.3-70b does not fit: weights and overhead take 133.75 GiB")
    assert advice == "Take more GPUs, or weights in a smaller dtype."
    assert answer(run, *asked, "--gpus", "1")["answer"] == first
