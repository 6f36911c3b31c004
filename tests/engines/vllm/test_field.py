"""Plans from the command line, held against what vLLM and its forks logged of real servers.

Each record of ../shared/reference/field.jsonl is asked as written: model, card and flags. What is
taken from elsewhere stands in the tables below, each with why; a record is left out where kvplan
does not know its model, its checkpoint or its card. The three tables are printed (pytest -rP).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.command_line import kvplan
from tests.engines.vllm.releases import engine_of

FIELD = Path(__file__).parents[4] / "shared" / "reference" / "field.jsonl"
pytestmark = pytest.mark.skipif(not FIELD.exists(), reason="../shared is not here")

GIB = 1 << 30
Record = dict[str, Any]

READ_AS: dict[str, dict[str, str]] = {
    # About the release of the day, where a log names a line of a source or nothing. The fork of
    # F046 and F047 (2 and 3 May 2026) printed whole blocks, as 0.20.0 does and 0.20.1 does not.
    "F003": {"version": "0.14.1"},
    "F004": {"version": "0.9.2"},
    "F042": {"version": "0.11.0"},
    "F043": {"version": "0.11.0"},
    "F046": {"version": "0.20.0"},
    "F047": {"version": "0.20.0"},
    "F014": {"version": "0.22"},
    # Two cards of one memory and one compute capability are called RTX PRO 6000 96GB.
    **{
        f"F{number:03}": {"gpu": "rtx-pro-6000-server-96gb"}
        for number in (44, 131, 132, 133, 134, 135, 137)
    },
}
READ_AS["F046"]["gpu"] = READ_AS["F047"]["gpu"] = "rtx-pro-6000-server-96gb"

LIKE_CARD = {
    "F003": "24GB",
    "F042": "h200",
    "F043": "h200",
    "F097": "rtx-6000-ada",
    "F098": "rtx-6000-ada",
    "F102": "h100",
}
"""Cards that are not known, or not in the catalogue: one of the same generation for what does not
rest on its memory."""

CACHES_OF = {
    "lukealonso/GLM-5.1-NVFP4-MTP": "glm-5.1",
    "MiniMax-M2.7 AWQ (recipes/minimax-m2.7-awq)": "minimax-m2.7",
}
"""Checkpoints whose weights are not known, and whose caches are those of the model as published."""

SECOND_HAND = {
    "F054": "a forum's quote of some release from 0.21 on, whose pages of V4 may be others",
}
"""Records whose tokens cannot be reproduced, and why."""

OTHER_GPU = {"F004", "F020", "F060", "F073"}
"""Tokens of 0.03 to 0.26 GiB less than the log quotes, which is one GPU's: field.jsonl says of the
first two that another had less; of the others, whose logs show one GPU alone, it is inferred."""


def mtp(record: Record) -> bool:
    return "(MTP on)" in record["model"]


def model_of(record: Record) -> str:
    """The repository, also of a folder of the hub's cache."""
    name = re.sub(r"^/models/models--(.+?)--(.+?)/.*", r"\1/\2", record["model"])
    return name.replace(" (MTP on)", "")


def gpu_of(record: Record) -> str:
    own = READ_AS.get(record["id"], {}).get("gpu")
    return own or re.sub(r" x\d+$", "", record["gpu"])


def arguments(record: Record, model: str, gpu: str) -> list[str]:
    """The command line of a record."""
    version = READ_AS.get(record["id"], {}).get("version", record["version"])
    words = ["plan", model, "--engine", engine_of(version), "--gpu", gpu]
    words += ["-tp", str(record["tp"])]
    flags = {"-dcp": record["dcp"], "-pp": record["pp"]}
    words += [str(word) for flag, n in flags.items() if n and n > 1 for word in (flag, n)]
    if not record["kv_cache_dtype"].startswith("auto"):
        words += ["--kv-cache-dtype", record["kv_cache_dtype"]]
    if record["max_model_len"]:
        words += ["--max-model-len", str(record["max_model_len"])]
    if record["mem_util"]:
        words += ["--gpu-memory-utilization", str(record["mem_util"])]
    return [*words, *(["--draft"] if mtp(record) else [])]


@cache
def _planned(words: tuple[str, ...]) -> Any:
    result = kvplan(*words, "--json")
    return result.document if result.stdout.startswith("{") else result.stderr.splitlines()[0]


@cache
def records() -> tuple[Record, ...]:
    """Those of vLLM and its forks."""
    found = map(json.loads, FIELD.read_text("utf-8").splitlines())
    return tuple(record for record in found if "vllm" in record["engine"])


def known(name: str, what: str) -> bool:
    words = {"model": (name, "--gpu", "h100"), "gpu": ("llama3-8b", "--gpu", name)}[what]
    return not isinstance(_planned(("plan", *words)), str)


@dataclass(frozen=True)
class Line:
    """A record, what was logged and what is planned."""

    record: Record
    logged: float
    low: float
    figure: float
    high: float

    @property
    def is_in(self) -> bool:
        return self.low <= self.logged <= self.high

    def __str__(self) -> str:
        record, figures = self.record, f"{self.logged} planned {self.figure:.4f}"
        span = f"[{self.low:.4f}, {self.high:.4f}]"
        name = f"{record['id']} {record['model'][:50]} {record['gpu']} TP{record['tp']}"
        return f"{'in ' if self.is_in else 'OUT'} {name}: logged {figures} {span}"


def show(title: str, lines: list[Line], left_out: list[str], *notes: str) -> None:
    head = f"{title}: {sum(line.is_in for line in lines)} of {len(lines)} in"
    sys.stdout.write("\n".join(["", head, *map(str, lines), *left_out, *notes, ""]))


@cache
def weights() -> tuple[list[Line], list[str]]:
    """What "Model loading took" in GiB, of models and checkpoints that are known."""
    lines, left_out = [], []
    for record in records():
        if record["model_loading"] is None:
            continue
        gpu = LIKE_CARD.get(record["id"], gpu_of(record))
        plan = _planned(tuple(arguments(record, model_of(record), gpu)))
        if isinstance(plan, str):
            left_out.append(f"--  {record['id']}: {plan}")
            continue
        logged = float(record["model_loading"].split()[0])
        figure = plan["per_gpu"]["weights_bytes"] / GIB
        lines.append(Line(record, logged, figure / 1.01, figure, figure / 0.99))
    return lines, left_out


def test_weights_are_within_a_hundredth_for_nine_of_ten() -> None:
    lines, left_out = weights()
    show("Weights, GiB a GPU (range: 1%)", lines, left_out)
    assert len(lines) >= 30
    assert sum(line.is_in for line in lines) >= 0.9 * len(lines)


def test_weights_are_left_out_only_where_the_model_is_not_known() -> None:
    for record in records():
        if record["model_loading"] and known(model_of(record), "model"):
            assert record["id"] in {line.record["id"] for line in weights()[0]}


def _tokens(record: Record) -> Line | str:
    """Tokens in the least and the most memory that the log rounds to what it says."""
    model = CACHES_OF.get(model_of(record), model_of(record))
    words = arguments(record, model, LIKE_CARD.get(record["id"], gpu_of(record)))
    memory, tokens = float(record["available_kv_gib"]), []
    for size in (memory - 0.005, memory, memory + 0.005):
        plan = _planned((*words, "--kv-cache-memory-bytes", str(int(size * GIB))))
        if isinstance(plan, str):
            return plan
        tokens.append(plan["capacity"]["tokens"])
    return Line(record, record["reported_tokens"], *tokens)


@cache
def tokens() -> tuple[list[Line], list[str]]:
    """What "GPU KV cache size" was of "Available KV cache memory"."""
    lines, left_out = [], []
    for record in records():
        if record["reported_tokens"] is None:
            continue
        line = SECOND_HAND.get(record["id"]) or _tokens(record)
        if isinstance(line, Line):
            lines.append(line)
        else:
            left_out.append(f"--  {record['id']}: {line}")
    return lines, left_out


def test_tokens_of_one_gpu_are_exact() -> None:
    lines, left_out = tokens()
    show("Tokens from the logged memory (range: its rounding)", lines, left_out)
    alone = [line for line in lines if line.record["tp"] == 1]
    assert len(alone) >= 20
    assert all(line.is_in for line in alone)


def test_tokens_of_several_gpus_are_those_of_the_one_that_is_logged_or_of_one_with_less() -> None:
    """A log quotes the memory of its first GPU; the tokens are of the GPU with the least."""
    several = [line for line in tokens()[0] if line.record["tp"] > 1]
    assert len(several) >= 15
    for line in several:
        if line.record["id"] in OTHER_GPU:
            assert 0.985 * line.low <= line.logged < line.low, str(line)
        else:
            assert line.is_in, str(line)


@cache
def memory() -> tuple[list[Line], list[str]]:
    """What "Available KV cache memory" was in GiB from model, card and flags."""
    lines, left_out = [], []
    for record in records():
        if record["available_kv_gib"] is None:
            continue
        if not known(gpu_of(record), "gpu") or record["tp"] is None:
            left_out.append(f"--  {record['id']}: its card is not known: {record['gpu']}")
            continue
        plan = _planned(tuple(arguments(record, model_of(record), gpu_of(record))))
        if isinstance(plan, str):
            left_out.append(f"--  {record['id']}: {plan}")
            continue
        own = plan["per_gpu"]
        low, high = (size / GIB for size in own["kv_available_range_bytes"])
        logged = float(record["available_kv_gib"])
        lines.append(Line(record, logged, low, own["kv_available_bytes"] / GIB, high))
    return lines, left_out


def test_memory_is_in_its_range_for_four_of_five() -> None:
    lines, left_out = memory()
    widths = [line.high - line.low for line in lines]
    errors = [line.figure - line.logged for line in lines]
    width = f"width: median {median(widths):.2f} GiB, widest {max(widths):.2f} GiB"
    bias = f"figure - logged: median {median(errors):+.2f} GiB"
    show("KV memory, GiB a GPU", lines, left_out, width, bias)
    assert len(lines) >= 25
    assert sum(line.is_in for line in lines) >= 0.8 * len(lines)
    assert median(widths) < 5
    assert abs(median(errors)) < 1.0
