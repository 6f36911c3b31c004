"""Baselines of ``kvplan check``: old, new, and what made the difference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.deployments import findings, line_of, write
from tests.command_line import Run

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "configs" / "checks" / "example.yaml"


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
    assert [(each["deployment"], each["check"]) for each in drifted] == [("chat", "baseline")]
    # 32,768 tokens × 81,920 B on each of two GPUs, for 20 and for 10 sequences
    change = "sequences 20 → 10: kv_bytes 53,687,091,200 → 26,843,545,600 (× 0.500), max_context_"
    assert drifted[0]["message"].startswith(change)
    assert drifted[0]["line"] == line_of(tmp_path, "sequences: 10")


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
    assert "kv_bytes 1 → 53,687,091,200" in drift["message"]
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
        '{"schema_version": true, "deployments": {}}',
        '{"schema_version": 1.0, "deployments": {}}',
        '{"schema_version": 1, "deployments": {}, "deployments": {}}',
        *(
            '{"schema_version": 1, "deployments": '
            f'{{"a": {{"kvplan": "1", "made_from": {{}}, "figures": {{"gpus": {figure}}}}}}}}}'
            for figure in ("NaN", "Infinity", "-1", "1e400", "1e-300", "9" * 400, "9" * 5_000)
        ),
    ],
)
def test_what_is_no_lock_file(run: Run, tmp_path: Path, content: str) -> None:
    write(tmp_path, content, "plan.lock.json")
    result = run("check", str(EXAMPLE), "--baseline", "plan.lock.json")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: plan.lock.json:")


def test_no_baseline_is_written_from_what_is_not_understood(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, "deployments: [{name: a, model: nothing-like-it, gpu: h100}]\n")
    result = run("check", file, "--baseline", "plan.lock.json", "--update-baseline")
    assert result.returncode == 2
    assert "plan.lock.json: not written" in result.stderr
    assert not (tmp_path / "plan.lock.json").exists()


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
    assert drifted[0].startswith("sequences 10 → 39: gpus 1 → 3 (2 GPUs more), ")


@pytest.mark.parametrize("figure", ["NaN", "9" * 400])
def test_nor_do_two_of_them_differ(run: Run, tmp_path: Path, figure: str) -> None:
    entry = f'{{"kvplan": "1", "made_from": {{}}, "figures": {{"gpus": {figure}}}}}'
    write(tmp_path, f'{{"schema_version": 1, "deployments": {{"a": {entry}}}}}', "a.lock.json")
    assert run("diff", "a.lock.json", "a.lock.json").returncode == 2


def test_deployments_of_other_files_stay_in_the_lock(run: Run, tmp_path: Path) -> None:
    update = ("--baseline", "plan.lock.json", "--update-baseline")
    for name in ("one", "two"):
        text = f"deployments: [{{name: {name}, model: gpt2, gpu: h100, gpus: 1}}]\n"
        result = run("check", write(tmp_path, text, f"{name}.yaml"), *update)
        assert result.returncode == 0
    assert "keeps what it has of files that were not given: one.yaml" in result.stderr
    both = ("one.yaml", "two.yaml", "--baseline", "plan.lock.json")
    assert findings(run, *both)[0] == 0
    write(tmp_path, "deployments: []\n", "plan.lock.json")
    assert run("check", "one.yaml", *update).returncode == 2  # never over what is no lock
    assert (tmp_path / "plan.lock.json").read_text() == "deployments: []\n"


def test_two_that_update_at_once_lose_nothing(tmp_path: Path) -> None:
    """Eight processes that write an entry each into the same lock, through a link or not."""
    lock, link = tmp_path / "plan.lock.json", tmp_path / "link.lock.json"
    link.symlink_to(lock)
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from kvplan.checks.baseline import update_lock\n"
        "entry = {'kvplan': '1', 'made_from': {}, 'figures': {'gpus': 1}}\n"
        "for turn in range(10):\n"
        "    name = f'{sys.argv[2]}-{turn}.yaml'\n"
        "    path = Path(sys.argv[1])\n"
        "    update_lock(path, {f'{name}#a': entry}, [path.parent / name], path.parent)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str((lock, link)[number % 2]), str(number)]
        )
        for number in range(8)
    ]
    assert [process.wait() for process in processes] == [0] * 8
    written = json.loads(lock.read_text())["deployments"]
    assert set(written) == {f"{number}-{turn}.yaml#a" for number in range(8) for turn in range(10)}
