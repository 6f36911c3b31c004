"""Whoever chose a name says nothing to a CI runner, whichever command repeats it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.command_line import Result, kvplan
from tests.hf.small_llama import CONFIG
from tests.render.runner import Command, commands

NAMES = (
    "::error::x",
    "a\r\n ::error file=b::x",
    "\x0b::error::x\x0c\u2028::error::x\x85::error::x",
    "::stop-commands::x\na ###[add-mask]y",
)
FORMATS = ("table", "json", "markdown", "csv")
ROOM = ("--kv-cache-memory-bytes", "1GiB")


@pytest.fixture(autouse=True)
def _in_an_action(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def told(result: Result) -> list[Command]:
    """The commands of a run, which has neither failed by itself nor kept silent."""
    assert result.returncode in (0, 1, 2, 3), result.stderr
    assert result.stdout or result.stderr
    return commands(result.stdout) + commands(result.stderr)


def file(name: str, content: str, suffix: str = ".yaml") -> str:
    path = f"{name}{suffix}"
    Path(path).write_text(content, encoding="utf-8", errors="surrogatepass")
    return path


def spec(**values: Any) -> str:
    group = {
        "layers": 1,
        "kind": "full_attention",
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    known = {"name": "m", "source": "s", "native_context_tokens": 64, "dtype": "bf16"}
    return json.dumps({**known, "groups": [group], **values})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        "show {}",
        "plan {}",
        "layouts {}",
        "compare {} llama3-70b",
        "compare llama3-70b --gpu {}",
        "show llama3-70b --kv-cache-dtype {}",
        "plan llama3-70b --ctx {}",
        "plan llama3-70b --overhead {}",
        "plan llama3-70b {}",
        "{}",
        "import {}",
        "diff {} llama3-70b",
        "diff {}.lock.json {}.lock.json",
        "check no-such-file.yaml --baseline {}",
        "measure {} --device cpu",
    ],
)
def test_an_argument(command: str, name: str) -> None:
    arguments = [part.replace("{}", name) for part in command.split()]
    result = kvplan(*arguments)
    assert result.returncode in (2, 3)
    assert told(result) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_with_two_problems(name: str) -> None:
    """Each problem is told on a line of its own, which may begin with the file's name."""
    path = f"./{file(name.replace('/', ''), spec(one=1, two=2))}"
    for command in (["show"], ["plan"], ["diff", "llama3-70b"]):
        result = kvplan(*command, path)
        assert result.returncode == 2
        assert told(result) == []
        assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_model_and_its_keys(name: str) -> None:
    model = file("model", spec(name=name, source=name, notes=name, assumptions=[name]))
    for output in FORMATS:
        for command in (["show"], ["compare"], ["plan", *ROOM], ["layouts", *ROOM]):
            result = kvplan(*command, f"./{model}", "--format", output)
            assert result.stdout
            assert told(result) == []
    for values in ({name: 1}, {"dtype": name}, {"groups": [{"kind": name}]}, {"name": [name]}):
        result = kvplan("show", f"./{file('broken', spec(**values))}")
        assert result.returncode == 2
        assert told(result) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_config(name: str) -> None:
    for key in ("model_type", "architectures", "torch_dtype", "layer_types", "hidden_act", name):
        value = [name] if key in ("architectures", "layer_types") else name
        folder = Path(name)
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**CONFIG, key: value}))
        for command in (["show"], ["import"], ["plan"], ["show", "--assume", "kind=mla"]):
            assert told(kvplan(command[0], f"./{name}", *command[1:])) == []
        quantized = {"quantization_config": {"quant_method": name, name: name}}
        (folder / "config.json").write_text(json.dumps({**CONFIG, **quantized}))
        assert told(kvplan("show", f"./{name}")) == []


@pytest.mark.parametrize("name", ["::error::x", "###[error]x", '模 "型\\', "- a: [b"])
def test_an_import_is_yaml_of_the_same_name(name: str) -> None:
    folder = Path(name)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    result = kvplan("import", f"./{name}")
    assert told(result) == []
    assert yaml.safe_load(result.stdout)["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_file(name: str) -> None:
    gpu = {"name": name, "description": name, "memory_bytes": 80 << 30, "sources": name}
    path = file("gpus", json.dumps({"gpus": [gpu]}))
    for output in FORMATS:
        assert told(kvplan("plan", "llama3-70b", "--gpu", path, "--format", output)) == []
    unknown = file("unknown", json.dumps({"gpus": [{**gpu, name: name}]}))
    assert told(kvplan("plan", "llama3-70b", "--gpu", unknown)) == []


def deployments(name: str) -> Iterator[str]:
    fits = {"name": name, "model": "llama3-70b", "gpu": "h100", "gpus": 4, "context": "4k"}
    yield json.dumps({"deployments": [fits]})
    yield json.dumps({"deployments": [{**fits, "gpus": 1}]})
    yield json.dumps({"deployments": [{**fits, "model": name}, {**fits, "name": "b", "gpu": name}]})
    yield json.dumps({"deployments": [{**fits, name: name, "also": 1}]})
    yield json.dumps({"deployments": [{**fits, "expect": {name: 1}}]})
    yield json.dumps({"defaults": {name: 1, "also": 2}, "deployments": [fits]})


@pytest.mark.parametrize("name", NAMES)
def test_a_check_annotates_what_it_found_and_nothing_else(name: str) -> None:
    lock = file("plan", json.dumps({"schema_version": 1, "deployments": {}}), ".lock.json")
    for content in deployments(name):
        path = file(name.replace("/", ""), content)
        for output in (*FORMATS, "junit"):
            result = kvplan("check", f"./{path}", "--baseline", lock, "--format", output)
            assert commands(result.stdout) == []
            assert {command.name for command in told(result)} <= {"error", "notice"}
            for command in told(result):
                assert command.name == "notice" or command.properties["title"].startswith("kvplan")
        result = kvplan("check", f"./{path}", "--format", "junit")
        assert ET.fromstring(result.stdout.encode()).tag == "testsuites"  # noqa: S314 - our own
        rows = list(csv.reader(StringIO(kvplan("check", f"./{path}", "--format", "csv").stdout)))
        assert {len(row) for row in rows} == {7}


@pytest.mark.parametrize("name", NAMES)
def test_a_lock(name: str) -> None:
    entry = {"kvplan": "0.1.0", "figures": {name: 1}, "made_from": {name: "0"}}
    locks: tuple[dict[str, Any], ...] = ({name: {}}, {name: entry}, {f"./d.yaml#{name}": entry})
    for held in locks:
        lock = file("plan", json.dumps({"schema_version": 1, "deployments": held}), ".lock.json")
        other = file("other", json.dumps({"schema_version": 1, "deployments": {}}), ".lock.json")
        for output in FORMATS:
            assert told(kvplan("diff", lock, other, "--format", output)) == []


@pytest.mark.parametrize("summary", ["no/such/folder/summary.md", "."])
def test_a_job_summary_that_cannot_be_written_does_not_lose_the_answer(
    summary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", summary)
    path = file("d", next(deployments("a")))
    result = kvplan("check", path, "--json")
    assert result.returncode == 0
    assert result.document["summary"]["passed"] == 1
    assert f"warning: {os.fspath(Path(summary))}: cannot be written: " in result.stderr
