"""What no option and no argument takes: nothing, and a number in another spelling than the one."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from kvplan.cli.app import app
from tests.command_line import Run

EMPTY = ("", "  ", "\u3000")
MISSPELT = (
    "+8",
    "1_000",
    "８",
    "٨",
    "010",
    "1e3",
    "0x10",
    "nan",
    "inf",
    "-1",
    " 8",
    "8 ",
    "9" * 400,
)

# Options and arguments that take a name or a file: any text but none.
TEXTS = {
    *("MODEL", "FILE", "PATH", "A", "B", "COMMAND"),
    *("--assume", "--kv-cache-dtype", "--mamba-cache-dtype", "--mamba-ssm-cache-dtype"),
    *("--index-cache-dtype", "--indexer-kv-dtype", "--draft-model", "--draft-kv-cache-dtype"),
    *("--gpu", "--dtype", "--quantization", "--layout", "--save", "--device", "--kind"),
    *("--search", "--attention-backend"),
    *("--baseline", "--from-hub", "-o", "--output", "--junit", "--sarif"),
}
# Words that are one of a few.
WORDS = {"WHAT", "SHELL", "--format", "--engine", "--kernel", "--emit"}
# Objects of JSON.
OBJECTS = {"--speculative-config", "-sc", "--limit-mm-per-prompt"}
NUMBERS = {
    *("--ctx", "--max-model-len", "--sequences", "--max-num-seqs", "--gpus", "--replicas"),
    *("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp"),
    *("--prefill-context-parallel-size", "-pcp"),
    *("--data-parallel-size", "-dp", "--decode-context-parallel-size", "-dcp"),
    *("--prefill-context-parallel-size", "-pcp"),
    *("--gpu-memory-utilization", "--overhead", "--kv-cache-memory-bytes", "--kv-offloading-size"),
    *("--max-loras", "--max-lora-rank", "--price", "--block-size", "--max-bytes"),
    *("--pipeline-partition", "--max-num-batched-tokens", "--num-speculative-tokens"),
    "--num-gpu-blocks-override",
}
# A list of numbers may have blanks beside its commas.
LEGAL = {
    *(("--pipeline-partition", " 8"), ("--pipeline-partition", "8 ")),
    # what vLLM has for auto
    *(("--ctx", "-1"), ("--max-model-len", "-1")),
}
NEEDED = {"diff": ["gpt2", "gpt2"], "import": ["config.json"], "check": ["deploy.yaml"], "list": []}


def values() -> list[tuple[str, str, str]]:
    """Every command with each name of everything that takes a value, and its metavar."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [
        (name, spelling, param.metavar)
        for name, command in commands.items()
        for param in command.params
        if not getattr(param, "is_flag", False)
        for spelling in (param.opts if param.param_type_name == "option" else [""])
    ]


def asked(command: str, spelling: str, metavar: str, value: str) -> tuple[str, ...]:
    if not spelling:
        others = ["gpt2"] if metavar == "B" else []
        return (command, "--", *others, value, *(["gpt2"] if metavar == "A" else []))
    given = NEEDED.get(command, ["gpt2"])
    if metavar.startswith("[="):  # it may stand alone: the next word is not its value
        return (command, *given, f"{spelling}={value}")
    return (command, *given, spelling, value)


def test_everything_that_takes_a_value_is_listed_here() -> None:
    names = {spelling or metavar.strip("[].") for _, spelling, metavar in values()}
    assert names == TEXTS | WORDS | OBJECTS | NUMBERS


@pytest.mark.parametrize(("command", "spelling", "metavar"), values())
def test_no_value_is_nothing_and_no_number_is_spelt_otherwise(
    run: Run, command: str, spelling: str, metavar: str
) -> None:
    name = spelling or metavar.strip("[].")
    for value in EMPTY if name in TEXTS else EMPTY + MISSPELT:
        if (name, value) in LEGAL:
            continue
        result = run(*asked(command, spelling, metavar, value))
        (line,) = result.stderr.splitlines()
        assert (result.returncode, result.stdout) == (2, ""), value
        assert line.startswith("error: "), value
        assert name in line, value
