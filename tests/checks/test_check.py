"""``kvplan check``: deployments, their expectations, and files that cannot be understood."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.checks.deployments import findings, write
from tests.command_line import Run

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "configs" / "checks" / "example.yaml"


def test_the_example_passes(run: Run) -> None:
    code, found = findings(run, str(EXAMPLE))
    assert code == 0
    assert len(found) == 10
    assert {finding["status"] for finding in found} == {"passed"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        # 2 × H200: 59.36 GiB a GPU are left; 65,536 tokens × 81,920 B (fp8, half the heads) × 20
        (
            "context: 32k",
            "context: 64k",
            r"need 100\.00 GiB .* have 59\.36 GiB; .* 38,904 tokens for 20",
        ),
        (
            "kv_cache_dtype: fp8",
            "kv_cache_dtype: bfloat16",
            r"11 sequences of 32,768 tokens, or 19,452 tokens .* fp8 KV",
        ),
        ("h200-sxm-141gb", "h100-sxm-80gb", r"does not fit: caches need 50\.00 GiB on each of 2 ×"),
    ],
)
def test_one_changed_line_fails_and_says_what_would_fit(
    run: Run, tmp_path: Path, before: str, after: str, told: str
) -> None:
    text = EXAMPLE.read_text()
    assert text.count(before) == 1
    code, found = findings(run, write(tmp_path, text.replace(before, after)))
    (fits,) = [each for each in found if (each["deployment"], each["check"]) == ("chat", "fits")]
    assert code == 1
    assert fits["status"] == "failed"
    assert re.search(told, fits["message"])
    assert "take more GPUs" in fits["message"]


def test_what_a_failure_says_would_fit_does_fit_and_one_more_does_not(
    run: Run, tmp_path: Path
) -> None:
    text = EXAMPLE.read_text()
    for tokens, expected in (("38904", 0), ("38905", 1)):
        changed = text.replace("context: 32k", f"context: {tokens}").replace(
            "min_headroom_percent: 2", "min_headroom_percent: 0"
        )
        code, _ = findings(run, write(tmp_path, changed))
        assert code == expected


# 8,192 tokens of llama3-70b's bf16 cache are 2.5 GiB: eight B200 (under 180 GiB each) hold fewer
# than 576, and with 131 GiB of weights among them and 92% used, more than 300.
BOUND = "deployments:\n  - {name: a, model: llama3-70b, gpu: b200, gpus: 8, context: 8k, %s}\n"


@pytest.mark.parametrize(
    ("expectation", "status"),
    [
        ("min_sequences: 300", "passed"),
        ("min_sequences: 600", "failed"),
        ("min_context: 1M", "passed"),
        ("min_context: 1000M", "failed"),
        ("max_gpus: 8", "passed"),
        ("max_gpus: 7", "failed"),
        ("max_bytes_per_token: 327680", "passed"),
        ("max_bytes_per_token: 327679", "failed"),
        ("min_headroom_percent: 50", "passed"),
        ("min_headroom_percent: 99", "failed"),
        ("stated: [{figure: bytes_per_token, value: 327680}]", "passed"),
        ("stated: [{figure: bytes_per_token, value: 327681}]", "failed"),
        ("stated: [{figure: bytes_per_token, value: 331000, tolerance_percent: 2}]", "passed"),
        ("stated: [{figure: bytes_per_token, value: 340000, tolerance_percent: 2}]", "failed"),
    ],
)
def test_each_expectation_holds_and_fails(
    run: Run, tmp_path: Path, expectation: str, status: str
) -> None:
    file = write(tmp_path, BOUND % f"sequences: 1, expect: {{{expectation}}}")
    code, found = findings(run, file)
    assert [each["status"] for each in found] == ["passed", status]  # it fits, and what is expected
    assert code == (0 if status == "passed" else 1)


def test_what_does_not_fit_fails_whatever_else_is_expected(run: Run, tmp_path: Path) -> None:
    tight = "deployments:\n  - {name: a, model: llama3-70b, gpu: h100, gpus: 1, expect: {%s}}\n"
    assert findings(run, write(tmp_path, tight % "max_gpus: 4"))[0] == 1
    assert findings(run, write(tmp_path, tight % "fits: false"))[0] == 0


def test_defaults_anchors_and_relative_models(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    spec = (ROOT / "configs" / "models" / "llama3-70b.yaml").read_text()
    write(tmp_path, spec, "ours/tuned.yaml")
    text = """
defaults: {gpu: b200, expect: {max_gpus: 8, max_bytes_per_token: 400000}}
anchors:
  wide: &wide {tensor_parallel_size: 8, context: 8k}
  small: &small {sequences: 2, context: 4k}
deployments:
  - {name: c, model: gpt2, <<: [*small, *wide], tensor_parallel_size: 1}
  - {name: a, model: tuned.yaml, <<: *wide, expect: {max_gpus: 4}}
  - name: b
    <<: *wide
    model: llama3-70b
    tensor_parallel_size: 2
"""
    code, found = findings(run, write(tmp_path, text, "ours/deploy.yaml") and "ours/deploy.yaml")
    told = {(each["deployment"], each["check"]): each for each in found}
    assert code == 1
    assert told["a", "max_gpus"]["status"] == "failed"
    assert told["a", "max_gpus"]["line"] == 8
    assert told["a", "max_bytes_per_token"]["status"] == "passed"
    assert told["a", "max_bytes_per_token"]["line"] == 2  # from the defaults
    assert told["b", "max_gpus"]["message"] == "2, at most 8 expected"
    assert "(TP1), 2 × 4,096 tokens" in told["c", "fits"]["message"]  # its own, the first, the last


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "deployments:\n  - name: a\n    contxt: 4k\n    model: x\n    gpu: y\n",
            (3, "unknown key 'contxt'; did you mean context?"),
        ),
        (
            "defaults: {gpuu: h100}\ndeployments: []\n",
            (1, "unknown key 'gpuu' in defaults; did you mean gpu?"),
        ),
        (
            "deployments:\n  - {name: a, model: m, gpu: g, expect: {min_seqences: 2}}\n",
            (2, "unknown key 'min_seqences'; did you mean min_sequences?"),
        ),
        (
            "deployments:\n  - {name: a, model: m, gpu: g, context: 5q}\n",
            (2, "deployments.0.context: '5q' is not a number of tokens"),
        ),
        (
            "deployments:\n  - {name: a, model: m, gpu: g}\n  - {name: a, model: m, gpu: g}\n",
            (3, "deployment 'a' is there twice (first on line 2)"),
        ),
        ("deployments: []\n", (1, "there is none, so nothing would be checked")),
        (
            "anchors: {n: &n 5}\ndeployments:\n  - name: a\n    <<: *n\n",
            (4, "<< takes *mapping, or a list of such"),
        ),
        (
            "defaults: {expect: {max_gpu: 4}}\ndeployments: [\n{name: a, model: m, gpu: g}]\n",
            (1, "unknown key 'max_gpu'; did you mean max_gpus?"),
        ),
        (
            "deployments: [{name: a, model: gpt2, gpu: h100, enable_expert_parallel: true}]\n",
            (1, "enable_expert_parallel needs a layout"),
        ),
        ("deployments: [*nothing]\n", (1, "*nothing stands for nothing that is above it")),
        ("", (1, "empty")),
        ("deployments: [{name: a, name: b}]\n", (1, "'name' is given twice")),
    ],
)
def test_a_file_that_cannot_be_understood(
    run: Run, tmp_path: Path, text: str, problem: tuple[int, str]
) -> None:
    code, found = findings(run, write(tmp_path, text))
    assert code == 2
    line, told = problem
    assert any(each["line"] == line and told in each["message"] for each in found)
    assert {each["status"] for each in found} == {"error"}


def test_an_alias_counts_as_all_that_it_stands_for(run: Run, tmp_path: Path) -> None:
    """The billion laughs: nine lists of nine aliases each."""
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lists += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    code, found = findings(run, write(tmp_path, "\n".join(lists) + "\ndeployments: []\n"))
    assert code == 2
    assert "more than 50,000 values" in found[0]["message"]


def test_the_worst_exit_code_wins_and_every_finding_is_told(run: Run, tmp_path: Path) -> None:
    config = {"model_type": "no-such-type", "architectures": ["NoSuchForCausalLM"]}
    write(tmp_path, json.dumps(config), "config.json")
    failing = "  - {name: f, model: llama3-70b, gpu: h100, gpus: 1}\n"
    misnamed = "  - {name: m, model: lama3-70, gpu: h100}\n"
    refused = "  - {name: r, model: config.json, gpu: h100}\n"
    for text, expected in (
        (failing, [1]),
        (failing + misnamed, [1, 2]),
        (refused + failing + misnamed, [3, 1, 2]),
    ):
        code, found = findings(run, write(tmp_path, f"deployments:\n{text}"))
        assert [each["exit_code"] for each in found] == expected
        assert code == max(expected)


def test_weights_that_are_not_counted_whole_are_no_pass(run: Run, tmp_path: Path) -> None:
    spec = (ROOT / "configs" / "models" / "gpt2.yaml").read_text()
    write(tmp_path, spec + 'not_counted: ["a tower of mirrors"]\n', "towered.yaml")
    text = "deployments: [{name: a, model: towered.yaml, gpu: h100, gpus: 1, context: 1k%s}]\n"
    code, found = findings(run, write(tmp_path, text % ""))
    (weights,) = [each for each in found if each["check"] == "weights"]
    assert (code, weights["status"]) == (1, "failed")
    assert "a tower of mirrors; give overhead, or allow_uncounted: true" in weights["message"]
    for allowance in (", allow_uncounted: true", ", overhead: 3GiB"):
        assert findings(run, write(tmp_path, text % allowance))[0] == 0
    plan = run("plan", "towered.yaml", "--gpu", "h100", "--ctx", "1k")
    assert "without what could not be counted" in " ".join(plan.stdout.split())


def test_a_deployment_that_used_the_old_meaning_of_dp_is_warned(run: Run, tmp_path: Path) -> None:
    text = "deployments: [{name: a, model: %s, gpu: h200, data_parallel_size: 8, context: 1k}]\n"
    assert "vLLM's meaning" in run("check", write(tmp_path, text % "deepseek-v3")).stderr
    assert "vLLM's meaning" not in run("check", write(tmp_path, text % "gpt2")).stderr


def test_what_an_unknown_architecture_keeps_can_be_assumed(run: Run, tmp_path: Path) -> None:
    """2 layers x 2 x 2 heads x 64 x 2 B; refused without the word, as on the command line."""
    config = {
        "model_type": "zork",
        "text_config": {
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 4096,
            "torch_dtype": "bfloat16",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = """deployments:
  - name: zork
    model: config.json
    gpu: h100-sxm-80gb
    gpus: 1
    context: 1k
    sequences: 1
    kv_cache_memory_bytes: 1GiB
    allow_uncounted: true
    expect: {stated: [{figure: bytes_per_token, value: 1024}]}
"""
    code, _ = findings(run, write(tmp_path, text))
    assert code == 3
    for assume in ("full_attention", "kind=full_attention"):
        more = f"    assume: {assume}\n    expect:"
        code, found = findings(run, write(tmp_path, text.replace("    expect:", more)))
        assert (code, {finding["status"] for finding in found}) == (0, {"passed"})


def test_two_errors_are_errors(run: Run, tmp_path: Path) -> None:
    text = "deployments: [{name: a, model: x, gpu: h100}, {name: b, model: x, gpu: h100}]\n"
    assert run("check", write(tmp_path, text)).stdout.startswith("2 errors.\n")


@pytest.mark.parametrize("key", ["kv_offloading_size", "overhead", "kv_cache_memory_bytes"])
def test_a_few_bytes_are_a_unit_left_out(run: Run, tmp_path: Path, key: str) -> None:
    """As ``--kv-offloading-size 44`` on the command line; bytes in full are a number."""
    text = "deployments:\n  - {name: a, model: qwen3-8b, gpu: h200, gpus: 1, %s: %s}\n"
    code, (finding,) = findings(run, write(tmp_path, text % (key, 44)))
    assert (code, finding["line"]) == (2, 2)
    assert "'44' would be 44 bytes; write 44GiB" in json.dumps(finding)
    assert findings(run, write(tmp_path, text % (key, 44 * 2**30)))[0] in (0, 1)
