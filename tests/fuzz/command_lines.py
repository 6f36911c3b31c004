"""Command lines of every command, with options that are read from the program itself."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import typer.main

from kvplan.cli.app import app
from tests.fuzz.mutations import TEXTS

_NUMBERS = ("0", "1", "2", "7", "8", "64", "-1", "512", "720720", "1000000", "1000001", "10" * 9)
_HUGE = (
    "1" + "0" * 400,
    "9" * 5_000,
    "1e400",
    "1e308",
    "nan",
    "inf",
    "-inf",
    "1e-320",
    "0.92",
    "3",
)
_SIZES = ("0", "3GiB", "80GB", "1KiB", "999999999999999999TiB", "0.5GiB", "44", "128MiB", "1e9")
_TOKENS = ("1", "4k", "128k", "1M", "1.5k", "1152921504606846976", "20000000000000", "131,072")
_DTYPES = ("auto", "fp8", "bf16", "nvfp4", "fp8_ds_mla", "q8_0", "float32", "int4", "mxfp4")
_GPUS = ("h100", "24GiB", "h200", "1MiB", "999999GiB", "gpu.yaml", "missing.yaml")
_MODELS = ("llama3-8b", "gpt2", "deepseek-v3", "model.yaml", "config.json", "missing.yaml")
_NEW_FILES = ("new.yaml", "new.lock.json", "missing/new.yaml", "x" * 300, "new\n.yaml", "\x1b.yaml")
"""Files that a command may write: in the folder of the input, and nowhere else."""

_ENGINES = ("vllm", "vllm", "vllm@0.33", "vllm@0.12.0", "vllm@0.9.1", "vllm@9", "none", "@")
_BACKENDS = (
    "auto",
    "FLASH_ATTN",
    "flashinfer",
    "FLASHMLA",
    "TRITON_MLA",
    "FLASHATTN",
    "CUTLASS_MLA",
)
_OBJECTS = (
    *("{}", "[]", "null", "{", "7", '{"image": 0}', '{"image": {"count": 0}, "video": 10}'),
    *('{"image": -1}', '{"audio": 1e9}', '{"video": {"num_frames": "x"}}', '{"imag": null}'),
    *('{"method": "mtp"}', '{"method": "mtp", "num_speculative_tokens": 3}'),
    *('{"method": "ngram", "num_speculative_tokens": 4}', '{"method": 7}', '{"model": [1]}'),
    *('{"model": "gpt2", "num_speculative_tokens": 2}', '{"method": "ngram", "method": "mtp"}'),
    *('{"method": "eagle3", "model": "missing.yaml", "num_speculative_tokens": true}',),
    *('{"method": "suffix", "num_speculative_tokens": 1000001}', '{"quantization": "fp8"}'),
)
"""Values of options that take JSON."""
_TAKE_ENGINES = ("plan", "compare", "layouts")
_VALUES = {
    "ENGINE": _ENGINES,
    "JSON": _OBJECTS,
    "[=FORM]": ("shell", "k8s", "helm"),
    "N": _NUMBERS,
    "TOKENS": _TOKENS,
    "BYTES": _SIZES,
    "DTYPE": _DTYPES,
    "NAME": (*_DTYPES, *_BACKENDS),
    "GPU": _GPUS,
    "MODEL": _MODELS,
    "SHARE": ("0.5", "0.92", "1", "0.01", "1.5"),
    "N,N...": ("33,28", "1,1", "0,1", "40,40", "1," * 3_000 + "1", "99999,1"),
    "kind=KIND": ("kind=full_attention", "kind=mla", "kind=nothing", "mla"),
    "LAYOUT": ("vllm", "contiguous", "nothing"),
}
"""Values that options of these names for their value take, or nearly."""
_WRITTEN = ("FILE", "LOCK")
_LEFT_OUT = ("--from-hub", "--device", "--help", "--max-bytes")
"""The network, and what would measure in earnest."""


@cache
def _options(command: str) -> tuple[Any, ...]:
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = (param for param in commands[command].params if param.param_type_name == "option")
    return tuple(option for option in options if option.opts[0] not in _LEFT_OUT)


def command_line(draw: Random, command: str, *given: str) -> tuple[str, ...]:
    """The command with what it is given, and some options beside."""
    arguments = [command, *given]
    if command == "diff" and len(given) == 1:
        arguments.append(draw.choice((*_MODELS, *given)))
    if command == "list":
        arguments = [command, draw.choice(("models", "gpus", "formats"))]
    if command == "compare":
        arguments += draw.choices((*_MODELS, draw.choice(TEXTS)), k=draw.choice((0, 1, 1)))
    known = [option for option in _options(command) if option.opts[0] not in given]
    chosen = draw.sample(known, min(len(known), draw.choice((0, 0, 1, 1, 2, 3, 5))))
    if draw.random() < 0.4:
        arguments.append("--json")
    if command in _TAKE_ENGINES and draw.random() < 0.5:
        arguments += ["--engine", draw.choice(_ENGINES)]
    for option in chosen:
        arguments += _written(draw, option)
    return tuple(arguments)


def _written(draw: Random, option: Any) -> list[str]:
    name = draw.choice(option.opts)
    if getattr(option, "is_flag", False):
        return [name]
    if option.metavar in _WRITTEN or name in ("-o", "--output"):
        return [name, draw.choice(_NEW_FILES)]
    usual = getattr(option.type, "choices", None) or _VALUES.get(option.metavar, _HUGE)
    if option.metavar == "[=FORM]":  # its value may be left out, and stands behind "="
        return [draw.choice((name, f"{name}={draw.choice(tuple(usual))}"))]
    if draw.random() < 0.8:
        return [name, draw.choice(tuple(usual))]
    return [name, draw.choice((*TEXTS, *_HUGE, *_NUMBERS))]
