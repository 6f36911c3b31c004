"""One input: a command line and the files that it names, made from a seed and a number."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from kvplan.registry.names import configs_dir, model_files
from tests.command_line import kvplan
from tests.fuzz.command_lines import command_line
from tests.fuzz.mutations import mutate, mutate_text
from tests.hf.models import MODELS, spelt_out

Data = dict[str, Any]
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_SPARED = 0.2
"""Share of the documents that are left as they are, so that good files meet bad options."""


@dataclass(frozen=True)
class Input:
    """What ``kvplan`` is started with: arguments, files of its folder, environment."""

    kind: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def draw_input(seed: int, number: int, kind: str | None = None) -> Input:
    """The input of this number: the same on every machine, whatever came before it."""
    draw = Random(f"{seed}/{number}")  # noqa: S311
    kinds, weights = zip(*((name, weight) for name, (weight, _) in _KINDS.items()), strict=True)
    name = kind or draw.choices(kinds, weights)[0]
    return _KINDS[name][1](draw)


def _changed(draw: Random, documents: Callable[[], list[Data]]) -> Data:
    data = draw.choice(documents())
    if draw.random() < _SPARED:
        return data
    changed: Data = mutate(draw, data, lambda: draw.choice(documents()))
    return changed


def _as_yaml(draw: Random, data: Data) -> bytes:
    try:
        text = yaml.dump(data, Dumper=_DUMPER, sort_keys=False, width=10**9)
    except UnicodeEncodeError:  # half of a character, which libyaml cannot write
        text = yaml.safe_dump(data, sort_keys=False, width=10**9)
    return mutate_text(draw, text)


def _as_json(draw: Random, data: Data) -> bytes:
    return mutate_text(draw, json.dumps(data, indent=draw.choice((None, 1))))


@cache
def _specs() -> list[Data]:
    return [_yaml(path) for path in model_files().values()]


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a safe one


@cache
def _configs() -> list[Data]:
    return [spelt_out(model["config"]) for model in MODELS.values()]


@cache
def _gpu_files() -> list[Data]:
    return [{"gpus": [gpu]} for gpu in _yaml(configs_dir() / "gpus.yaml")["gpus"]]


_EXPECTED = {"min_sequences": 2, "min_context": "8k", "max_gpus": 8, "min_headroom_percent": 1.5}
_STATED = [
    {"figure": "gpus", "value": 1},
    {"figure": "kv_bytes", "value": 10, "tolerance_percent": 5},
]
_DEPLOYED: tuple[Data, ...] = (
    {"model": "llama3-8b", "gpu": "h100", "gpus": 1, "context": "32k", "expect": _EXPECTED},
    {
        "model": "deepseek-v3",
        "gpu": "h200",
        "data_parallel_size": 8,
        "enable_expert_parallel": True,
    },
    {"model": "gpt2", "gpu": "24GiB", "sequences": 4, "overhead": "2GiB", "max_num_seqs": 16},
    {"model": "config.json", "gpu": "gpu.yaml", "replicas": 2, "allow_uncounted": True},
    {"model": "model.yaml", "gpu": "l40s", "pipeline_partition": [40, 40], "kv_cache_dtype": "fp8"},
    {"model": "qwen3-8b", "gpu": "a100-80gb", "max_loras": 4, "gpu_memory_utilization": 0.9},
    {"model": "jamba-1.5-mini", "gpu": "h100", "mamba_ssm_cache_dtype": "float32"},
    {
        "model": "gpt-oss-120b",
        "gpu": "h100",
        "engine": "vllm",
        "block_size": 32,
        "max_num_batched_tokens": 8192,
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 4},
    },
    {
        "model": "qwen3-next-80b-a3b",
        "gpu": "b200",
        "engine": "vllm@0.12.0",
        "enable_prefix_caching": False,
        "num_gpu_blocks_override": 4096,
        "limit_mm_per_prompt": {"image": 0},
    },
    {"model": "config.json", "gpu": "mi300x", "engine": "vllm", "attention_backend": "auto"},
    {
        "model": "llama3-70b",
        "gpu": "h100",
        "tensor_parallel_size": 8,
        "kv_offloading_size": "44GiB",
    },
)


@cache
def _check_files() -> list[Data]:
    """Files of one to five deployments, with and without defaults."""
    draw, files = Random(0), []  # noqa: S311
    for _ in range(40):
        chosen = draw.choices(_DEPLOYED, k=draw.randint(1, 5))
        listed = [{"name": f"d{index}", **data} for index, data in enumerate(chosen)]
        defaults = {**draw.choice(_DEPLOYED), "expect": {"stated": _STATED}}
        files.append(
            {"deployments": listed, **({"defaults": defaults} if draw.random() < 0.5 else {})}
        )
    return files


@cache
def _locks() -> list[Data]:
    """Lock files as kvplan itself writes them."""
    locks = []
    with TemporaryDirectory() as folder:
        for index, data in enumerate(_DEPLOYED[:3]):
            file, lock = Path(folder) / "check.yaml", Path(folder) / f"{index}.lock.json"
            file.write_text(yaml.dump({"deployments": [{"name": "d0", **data}]}), encoding="utf-8")
            kvplan("check", str(file), "--baseline", str(lock), "--update-baseline")
            locks.append(json.loads(lock.read_text(encoding="utf-8")))
    return locks


def _spec(draw: Random) -> Input:
    files = {"model.yaml": _as_yaml(draw, _changed(draw, _specs))}
    command = draw.choice(("show", "show", "plan", "plan", "compare", "layouts", "diff"))
    return Input("spec", command_line(draw, command, "model.yaml"), files)


def _config(draw: Random) -> Input:
    files = {"config.json": _as_json(draw, _changed(draw, _configs))}
    if draw.random() < 0.1:
        files["hf_quant_config.json"] = _as_json(draw, _changed(draw, _quantized))
    command = draw.choice(("show", "show", "import", "import", "plan", "compare", "layouts"))
    return Input("config", command_line(draw, command, draw.choice((".", "config.json"))), files)


@cache
def _quantized() -> list[Data]:
    named = [model["hf_quant_config"] for model in MODELS.values() if "hf_quant_config" in model]
    return [*map(spelt_out, named), *(c for c in _configs() if "quantization_config" in c)]


def _deployments(draw: Random) -> Input:
    files = {
        "check.yaml": _as_yaml(draw, _changed(draw, _check_files)),
        "model.yaml": _as_yaml(draw, draw.choice(_specs())),
        "config.json": _as_json(draw, draw.choice(_configs())),
        "gpu.yaml": _as_yaml(draw, draw.choice(_gpu_files())),
    }
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "summary.md"}
    environment = github if draw.random() < 0.1 else {}
    return Input("deployments", command_line(draw, "check", "check.yaml"), files, environment)


def _lock(draw: Random) -> Input:
    files = {
        name: _as_json(draw, _changed(draw, _locks)) for name in ("a.lock.json", "b.lock.json")
    }
    if draw.random() < 0.5:
        return Input("lock", command_line(draw, "diff", "a.lock.json", "b.lock.json"), files)
    files["check.yaml"] = _as_yaml(draw, draw.choice(_check_files()))
    arguments = command_line(draw, "check", "check.yaml", "--baseline", "a.lock.json")
    return Input("lock", arguments, files)


def _gpu(draw: Random) -> Input:
    files = {"gpu.yaml": _as_yaml(draw, _changed(draw, _gpu_files))}
    command = draw.choice(("plan", "plan", "layouts", "compare"))
    arguments = command_line(draw, command, _model(draw), "--gpu", "gpu.yaml")
    return Input("GPU", arguments, files)


def _options(draw: Random) -> Input:
    command = draw.choice(("plan", "plan", "plan", "compare", "layouts", "show", "diff", "list"))
    return Input("options", command_line(draw, command, _model(draw)))


def _measure(draw: Random) -> Input:
    """On the CPU and in little memory: what is measured is not what is tried."""
    arguments = command_line(draw, "measure", "gpt2", "--device", "cpu", "--max-bytes", "16MiB")
    return Input("measure", arguments)


def _model(draw: Random) -> str:
    return draw.choice(list(model_files()))


_KINDS: dict[str, tuple[int, Callable[[Random], Input]]] = {
    "spec": (24, _spec),
    "config": (30, _config),
    "deployments": (14, _deployments),
    "lock": (8, _lock),
    "GPU": (8, _gpu),
    "options": (16, _options),
    "measure": (0, _measure),  # where it is asked for: it loads torch
}
