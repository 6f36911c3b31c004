"""``kvplan check`` and ``kvplan diff``: expectations, baselines, outputs for CI."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import yaml

if TYPE_CHECKING:
    from tests.command_line import Run

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "configs" / "checks" / "example.yaml"


def findings(run: Run, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = run("check", *arguments, "--json")
    return result.returncode, result.document["findings"]


def write(tmp_path: Path, text: str, name: str = "deploy.yaml") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return name


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


def test_a_baseline_tells_old_new_and_cause(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, EXAMPLE.read_text())
    lock = ("--baseline", "plan.lock.json")
    assert run("check", file, *lock).returncode == 2  # not there yet
    assert run("check", file, *lock, "--update-baseline").returncode == 0
    assert findings(run, file, *lock)[0] == 0

    write(tmp_path, EXAMPLE.read_text().replace("sequences: 20", "sequences: 10"))
    code, found = findings(run, file, *lock)
    drifted = [each for each in found if each["check"].startswith("baseline")]
    assert code == 1
    assert [(each["deployment"], each["check"]) for each in drifted] == [
        ("chat", "baseline kv_bytes"),
        ("chat", "baseline max_context_tokens"),
    ]
    # 32,768 tokens × 81,920 B on each of two GPUs, for 20 and for 10 sequences
    assert "53,687,091,200 became 26,843,545,600 (deployment changed)" in drifted[0]["message"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("made_from", "spec", "0"), "spec changed"),
        (("made_from", "GPU", "0"), "GPU changed"),
        (("kvplan", None, "0.0.1"), "rule changed from kvplan 0.0.1 to "),
    ],
)
def test_the_cause_of_a_drift(
    run: Run, tmp_path: Path, change: tuple[str, str | None, str], cause: str
) -> None:
    file, lock = write(tmp_path, EXAMPLE.read_text()), tmp_path / "plan.lock.json"
    run("check", file, "--baseline", lock.name, "--update-baseline")
    document = json.loads(lock.read_text())
    locked = document["deployments"]["deploy.yaml#chat"]
    locked["figures"]["kv_bytes"] = 1
    part, key, value = change
    if key is None:
        locked[part] = value
    else:
        locked[part][key] = value
    lock.write_text(json.dumps(document))
    code, found = findings(run, file, "--baseline", lock.name)
    assert code == 1
    (drift,) = [each for each in found if each["status"] == "failed"]
    assert "1 became 53,687,091,200" in drift["message"]
    assert cause in drift["message"]


def test_deployments_that_come_and_go_are_drift(run: Run, tmp_path: Path) -> None:
    one = "  - {name: %s, model: gpt2, gpu: h100}\n"
    file = write(tmp_path, "deployments:\n" + one % "a" + one % "b")
    run("check", file, "--baseline", "plan.lock.json", "--update-baseline")
    write(tmp_path, "deployments:\n" + one % "b" + one % "c")
    code, found = findings(run, file, "--baseline", "plan.lock.json")
    told = {each["deployment"]: each["message"] for each in found if each["status"] == "failed"}
    assert code == 1
    assert told == {
        "c": "not in the baseline; --update-baseline takes it in",
        "a": "in the baseline, no longer in the file; --update-baseline drops it",
    }


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"deployments": {}}',
        '{"schema_version": 1, "deployments": {"a": 1}}',
        '{"schema_version": 1, "deployments": {"a": {"kvplan": "1", "made_from": {}}}}',
        '{"schema_version": 1, "deployments": '
        '{"a": {"kvplan": "1", "made_from": {}, "figures": {"gpus": "8"}}}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_lock_file(run: Run, tmp_path: Path, content: str) -> None:
    write(tmp_path, content, "plan.lock.json")
    result = run("check", str(EXAMPLE), "--baseline", "plan.lock.json")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: plan.lock.json: ")


def test_no_baseline_is_written_from_what_is_not_understood(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, "deployments: [{name: a, model: nothing-like-it, gpu: h100}]\n")
    result = run("check", file, "--baseline", "plan.lock.json", "--update-baseline")
    assert result.returncode == 2
    assert "plan.lock.json: not written" in result.stderr
    assert not (tmp_path / "plan.lock.json").exists()


HOSTILE = "we:ird, 100%\r\nname <&\"']]>\x1b[31m\u202e"


def hostile(tmp_path: Path) -> str:
    deployment = {"name": HOSTILE, "model": "llama3-70b", "gpu": "h100", "gpus": 1}
    return write(tmp_path, yaml.safe_dump({"deployments": [deployment]}))


def test_annotations_survive_newlines_percent_signs_and_colons(run: Run, tmp_path: Path) -> None:
    result = run("check", hostile(tmp_path), "--format", "github")
    (line,) = result.stdout.splitlines()
    found = re.fullmatch(r"::error file=deploy\.yaml,line=(\d+),title=([^:,]*)::(.*)", line)
    assert found is not None
    title = found[2]
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        title = title.replace(code, char)
    assert title == "kvplan we:ird, 100%\r\nname <&\"']]>\\x1b[31m\\u202e fits"
    assert found[3].startswith("does not fit: ")


def test_junit_is_whole_and_escaped(run: Run, tmp_path: Path) -> None:
    """Attributes and order of elements that JUnit.xsd (windyroad/JUnit-Schema) requires."""
    result = run("check", hostile(tmp_path), str(EXAMPLE), "--format", "junit")
    assert result.returncode == 1
    root = ET.fromstring(result.stdout)  # noqa: S314 - our own
    assert (root.tag, root.attrib) == ("testsuites", {})
    assert [suite.tag for suite in root] == ["testsuite", "testsuite"]
    for number, suite in enumerate(root):
        assert set(suite.attrib) == {
            "name",
            "package",
            "id",
            "hostname",
            "timestamp",
            "time",
            "tests",
            "failures",
            "errors",
        }
        assert suite.attrib["id"] == str(number)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        tags = [part.tag for part in suite]
        cases = int(suite.attrib["tests"])
        assert tags == ["properties", *["testcase"] * cases, "system-out", "system-err"]
        assert all(set(case.attrib) == {"name", "classname", "time"} for case in suite[1:-2])
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert set(failure.attrib) == {"message", "type"}
    assert (failure.text or "").startswith("deploy.yaml:")
    assert [root[0].attrib[name] for name in ("tests", "failures", "errors")] == ["1", "1", "0"]


def test_inside_github_actions_files_are_annotated_and_the_job_is_summed_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hostile(tmp_path)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run("check", file, "--json")
    assert result.document["summary"] == {"passed": 0, "failed": 1, "error": 0}
    assert "::error file=deploy.yaml,line=" in result.stderr
    lines = summary.read_text().splitlines()
    assert lines[:2] == ["before", "### kvplan check"]
    assert any(line.startswith("| we:ird, 100%\\\\r\\\\nname") for line in lines)


def test_diff_of_two_models(run: Run) -> None:
    result = run("diff", "llama3-70b", "deepseek-v3", "--ctx", "128k", "--json")
    told = {each["figure"]: each for each in result.document["differences"]}
    assert result.returncode == 0
    # 80 layers × 2 × 8 heads × 128 × 2 B, and 61 layers × (512 + 64) × 2 B
    assert (told["bytes_per_token"]["before"], told["bytes_per_token"]["after"]) == (327680, 70272)
    assert (told["attention"]["before"], told["attention"]["after"]) == ("GQA", "MLA")
    assert run("diff", "gpt2", "gpt2", "--json").document["differences"] == []


def test_diff_of_two_lock_files(run: Run, tmp_path: Path) -> None:
    for name, context in (("a", "4k"), ("b", "8k")):
        asked = f"gpu: h100, gpus: 1, sequences: 2, context: {context}"
        file = write(tmp_path, f"deployments: [{{name: x, model: gpt2, {asked}}}]\n")
        run("check", file, "--baseline", f"{name}.lock.json", "--update-baseline")
    result = run("diff", "a.lock.json", "b.lock.json", "--json")
    told = {each["figure"]: each for each in result.document["differences"]}
    assert told["kv_bytes"]["before"] == 2 * 4096 * 36_864  # 12 layers × 2 × 12 heads × 64 × 2 B
    assert told["kv_bytes"]["after"] == 2 * 8192 * 36_864
    assert told["kv_bytes"]["cause"] == "deployment changed"
    assert run("diff", "a.lock.json", "gpt2").returncode == 2


def test_the_action_and_the_hook_run_commands_that_exist(run: Run) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert any(re.search(r"kvplan check\b", script) for script in scripts)
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    command, *arguments = hook["entry"].split()
    assert command == "kvplan"
    assert run(*arguments, str(EXAMPLE)).returncode == 0


def test_growth_over_more_gpus_does_not_pass_unnoticed(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, "deployments: [{name: a, model: gpt2, gpu: h100, context: 1k}]\n")
    assert "it passes on any number of GPUs; today on 1" in run("check", file).stderr
    for bound in ("gpus: 1", "tensor_parallel_size: 1", "expect: {max_gpus: 1}"):
        deployment = f"{{name: a, model: gpt2, gpu: h100, context: 1k, {bound}}}"
        file = write(tmp_path, f"deployments: [{deployment}]\n")
        assert "any number of GPUs" not in run("check", file).stderr


def test_a_drift_in_gpus_comes_first_in_its_own_words(run: Run, tmp_path: Path) -> None:
    one = "deployments: [{name: a, model: llama3.1-8b, gpu: h100, context: 32k, sequences: %d}]\n"
    lock = ("--baseline", "plan.lock.json")
    run("check", write(tmp_path, one % 10), *lock, "--update-baseline")
    _, found = findings(run, write(tmp_path, one % 39), *lock)
    drifted = [each["message"] for each in found if each["check"].startswith("baseline")]
    assert drifted[0] == "2 GPUs more than before: 1 became 3 (deployment changed)"


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
    assert "fits, without what could not be counted" in " ".join(plan.stdout.split())


def test_a_deployment_that_used_the_old_meaning_of_dp_is_warned(run: Run, tmp_path: Path) -> None:
    text = "deployments: [{name: a, model: %s, gpu: h200, data_parallel_size: 8, context: 1k}]\n"
    assert "vLLM's meaning" in run("check", write(tmp_path, text % "deepseek-v3")).stderr
    assert "vLLM's meaning" not in run("check", write(tmp_path, text % "gpt2")).stderr
