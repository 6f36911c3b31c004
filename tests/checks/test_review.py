"""What a reviewer sees: the answer first, the line that decides, what changed, each thing once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks.deployments import findings, line_of, write
from tests.command_line import Run

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "configs" / "checks" / "example.yaml"

# 20 × 65,536 tokens × 81,920 B (fp8, half the heads) are 100 GiB where 59.36 GiB are free.
TOO_LONG = ("context: 32k", "context: 64k")


def test_the_first_line_is_the_answer_and_passes_are_a_count(run: Run, tmp_path: Path) -> None:
    assert run("check", str(EXAMPLE)).stdout == "All 10 checks passed.\n"
    file = write(tmp_path, EXAMPLE.read_text().replace(*TOO_LONG))
    lines = run("check", file).stdout.splitlines()
    assert lines[:2] == [
        "2 of 10 checks failed in 1 of 2 deployments.",
        "8 passed; --all shows them.",
    ]
    assert [line.split()[2] for line in lines[5:]] == ["fits", "min_headroom_percent"]
    every = run("check", file, "--all").stdout.splitlines()
    results = [next(word for word in ("FAILED", "ok") if f" {word} " in line) for line in every[4:]]
    assert results == ["FAILED"] * 2 + ["ok"] * 8


def test_errors_are_named_first(run: Run, tmp_path: Path) -> None:
    text = "deployments:\n  - {name: a, model: llama3-70b, gpu: h100, gpus: 1}\n  - {name: b, %s}\n"
    result = run("check", write(tmp_path, text % "model: no-such, gpu: h100"))
    assert result.stdout.startswith("1 error, and 1 of 1 check failed in 1 of 2 deployments.\n")
    assert result.stdout.index("ERROR") < result.stdout.index("FAILED")


def test_what_changed_is_told_once_on_its_own_line(run: Run, tmp_path: Path) -> None:
    lock = ("--baseline", "plan.lock.json")
    file = write(tmp_path, EXAMPLE.read_text())
    run("check", file, *lock, "--update-baseline")
    write(tmp_path, EXAMPLE.read_text().replace(*TOO_LONG))
    _, found = findings(run, file, *lock)
    failed = [each for each in found if each["status"] == "failed"]
    assert {each["line"] for each in failed} == {line_of(tmp_path, "context: 64k")}
    assert failed[0]["message"].startswith(
        "context 32,768 → 65,536: 11 of 20 sequences fit, or 38,904"
    )
    assert sum("32,768" in each["message"] for each in failed) == 1
    assert sum("38,904" in each["message"] for each in failed) == 1
    assert "kv_bytes 53,687,091,200 → 107,374,182,400 (× 2.00)" in failed[-1]["message"]


def test_a_failure_is_a_line_of_a_terminal_and_says_what_fits(run: Run, tmp_path: Path) -> None:
    """11 sequences: 11 x 65,536 x 81,920 B are 55 GiB of the 59.36 GiB that are free, 12 are 60."""
    lock = ("--baseline", "plan.lock.json")
    file = write(tmp_path, EXAMPLE.read_text())
    run("check", file, *lock, "--update-baseline")
    write(tmp_path, EXAMPLE.read_text().replace(*TOO_LONG))
    shown = run("check", file, *lock, columns=100).stdout
    rows = [line.split(maxsplit=3) for line in shown.splitlines()[5:]]
    assert rows[0] == ["chat", "fits", "FAILED", "context 32,768 → 65,536: 11 of 20 sequences fit"]
    assert [row[:2] for row in rows[1:-1]] == [
        ["chat", "min_headroom_percent"],
        ["chat", "baseline"],
    ]
    assert rows[2][3].startswith("kv_bytes 50.00 GiB → 100.00 GiB")
    assert "deployment changed" not in shown
    assert shown.endswith(" not shown: Where (--wide shows it)\n")
    narrow = run("check", file, *lock, columns=80).stdout
    assert "Result (--wide" in narrow
    assert len(narrow.splitlines()) <= len(shown.splitlines()) + 3
    assert "FAILED" in run("check", file, *lock).stdout


@pytest.mark.parametrize(
    ("defaults", "own", "line"),
    [
        ("expect: {min_headroom_percent: 2}", "context: 8M\n    sequences: 9", "context: 8M"),
        ("context: 8M", "sequences: 9", "sequences: 9"),  # not the default's line
        ("context: 8M\n  sequences: 9", "kv_cache_dtype: fp8", "kv_cache_dtype: fp8"),
        ("context: 8M\n  sequences: 9", "draft: false", "name: a"),
    ],
)
def test_the_line_is_the_deployments_own(
    run: Run, tmp_path: Path, defaults: str, own: str, line: str
) -> None:
    text = (
        f"defaults:\n  gpu: h100\n  model: llama3-70b\n  gpus: 8\n  {defaults}\n"
        f"deployments:\n  - name: a\n    {own}\n"
    )
    _, found = findings(run, write(tmp_path, text))
    failed = [each for each in found if each["status"] == "failed"]
    assert failed
    assert {each["line"] for each in failed} == {line_of(tmp_path, line)}


def test_a_default_that_changed_is_the_line_that_decides(run: Run, tmp_path: Path) -> None:
    text = (
        "defaults:\n  gpu: h100\n  gpus: 8\n  context: %s\n"
        "deployments:\n  - name: a\n    model: llama3-70b\n    sequences: 2\n"
    )
    lock = ("--baseline", "plan.lock.json")
    run("check", write(tmp_path, text % "8k"), *lock, "--update-baseline")
    _, found = findings(run, write(tmp_path, text % "8M"), *lock)
    failed = [each["line"] for each in found if each["status"] == "failed"]
    assert set(failed) == {4}


@pytest.mark.parametrize(("key", "line"), [("gpu: h1000", 4), ("enable_expert_parallel: true", 5)])
def test_an_error_stands_on_the_key_that_it_is_about(
    run: Run, tmp_path: Path, key: str, line: int
) -> None:
    gpu, other = ("h1000", "sequences: 1") if line == 4 else ("h100", key)
    text = f"deployments:\n  - name: a\n    model: gpt2\n    gpu: {gpu}\n    {other}\n"
    _, (finding,) = findings(run, write(tmp_path, text))
    assert (finding["status"], finding["line"]) == ("error", line)


ONE = "defaults: {gpu: h100, gpus: 1, context: 4k}\ndeployments:\n  - {name: a, model: gpt2, %s}\n"


@pytest.mark.parametrize("name", ["max_model_len", "max-model-len", "ctx"])
def test_vllms_names_are_taken_and_go_before_a_default(run: Run, tmp_path: Path, name: str) -> None:
    # 12 layers × 2 × 12 heads × 64 × 2 B × 1,024 tokens × 2 sequences
    stated = "expect: {stated: [{figure: kv_bytes, value: 75497472}]}"
    file = write(tmp_path, ONE % f"{name}: 1k, sequences: 2, {stated}")
    assert findings(run, file)[0] == 0


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("context: 1k, max_model_len: 1k", "context and max_model_len are two names of the same"),
        ("tp: 1, tensor-parallel-size: 1", "tp and tensor-parallel-size are two names of the same"),
    ],
)
def test_two_names_of_the_same_are_an_error(run: Run, tmp_path: Path, keys: str, told: str) -> None:
    code, (finding,) = findings(run, write(tmp_path, ONE % keys))
    assert (code, finding["line"]) == (2, 3)
    assert told in finding["message"]


def test_an_own_name_goes_before_what_an_anchor_brings(run: Run, tmp_path: Path) -> None:
    text = (
        "anchors:\n  long: &long {context: 4k}\ndeployments:\n"
        "  - <<: *long\n    name: a\n    model: gpt2\n    gpu: h100\n    gpus: 1\n"
        "    sequences: 2\n    max_model_len: 1k\n"
        "    expect: {stated: [{figure: kv_bytes, value: 75497472}]}\n"
    )
    assert findings(run, write(tmp_path, text))[0] == 0


def test_diff_says_factors_and_what_changed(run: Run, tmp_path: Path) -> None:
    for name, context in (("a", "4k"), ("b", "8k")):
        asked = f"gpu: h100, gpus: 1, sequences: 2, context: {context}"
        file = write(tmp_path, f"deployments: [{{name: x, model: gpt2, {asked}}}]\n")
        run("check", file, "--baseline", f"{name}.lock.json", "--update-baseline")
    result = run("diff", "a.lock.json", "b.lock.json")
    first, *lines = result.stdout.splitlines()
    assert first.startswith("a.lock.json → b.lock.json: ")
    (line,) = [line for line in lines if "kv bytes" in line]
    # 2 × 4,096 × 36,864 B are 288 MiB
    assert "288.00 MiB" in line
    assert "576.00 MiB" in line
    assert "× 2.00" in line
    assert "context 4,096 → 8,192" in line
    (told,) = [
        each
        for each in run("diff", "a.lock.json", "b.lock.json", "--json").document["differences"]
        if each["figure"] == "kv_bytes"
    ]
    assert (told["before"], told["factor"]) == (301_989_888, 2.0)
