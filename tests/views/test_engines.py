"""``kvplan engines``: every accounting that ``--engine`` takes, in every format."""

from __future__ import annotations

import csv
from io import StringIO

from kvplan.engines.versions import ENGINE_VERSIONS, engine_version
from tests.command_line import Run


def test_each_name_that_is_listed_is_one_that_the_option_takes(run: Run) -> None:
    listed = run("engines", "--json").document["engines"]
    assert [row["engine"] for row in listed] == ["none", "vllm@0.33.0", "vllm@0.32.0"]
    assert [engine_version(row["engine"]) for row in listed] == list(ENGINE_VERSIONS)
    assert listed[0]["options"] == []
    assert {"block_size", "attention_backend", "enforce_eager"} <= set(listed[1]["options"])


def test_in_every_format(run: Run) -> None:
    assert run("engines").stdout.splitlines()[0] == "Engines"
    assert "vllm@0.33.0" in run("engines").stdout
    rows = list(csv.DictReader(StringIO(run("engines", "--format", "csv").stdout)))
    assert [row["version"] for row in rows] == ["", "0.33.0", "0.32.0"]
    assert "| `vllm@0.33.0` |" in run("engines", "--format", "markdown").stdout


def test_the_tab_key_completes_engines_backends_and_forms(run: Run) -> None:
    def words(*typed: str) -> list[str]:
        return run("__complete", *typed).stdout.splitlines()[1:]

    assert words("plan", "--engine", "v")[:3] == ["vllm", "vllm@0.33.0", "vllm@0.32.0"]
    assert "vllm@0.12.0" in words("plan", "--engine", "vllm@0.1")
    assert "FLASHMLA_SPARSE" in words("plan", "--attention-backend", "flashm")
    assert words("plan", "gpt2", "--emit=") == ["--emit=shell", "--emit=k8s"]
    assert any(word.startswith("--no-enable-prefix-caching") for word in words("plan", "--no-e"))
