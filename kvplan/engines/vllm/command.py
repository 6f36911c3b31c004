"""The command that starts vLLM as a plan has it: ``vllm serve`` with what is not its default."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.arguments import argument
from kvplan.errors import RefusedError
from kvplan.parallel import Layout
from kvplan.units import ceil_div, plural

HEAD = "HEAD_NODE"
"""Stands for the address of the first node."""
PARTITION = "VLLM_PP_LAYER_PARTITION"
_PROGRAM = ("vllm", "serve")

Value = bool | int | float | str | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What is started: the model as vLLM loads it, its server, and options beside their defaults.

    ``options`` are the values of arguments that neither layout nor settings have, by name without
    dashes; None and False are left out.
    """

    model: str
    layout: Layout
    settings: ServerSettings
    options: Mapping[str, Value | None] = field(default_factory=dict)
    node_gpus: int


@dataclass(frozen=True)
class Process:
    """What runs on one node of a server, the first of them first."""

    arguments: tuple[tuple[str, str | None], ...]
    model: str
    environment: Mapping[str, str]
    gpus: int

    @property
    def words(self) -> list[str]:
        """The command, word by word."""
        flags = [word for pair in self.arguments for word in pair if word is not None]
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return [*(["env", *variables] if variables else []), *_PROGRAM, self.model, *flags]

    @property
    def line(self) -> str:
        """The command as a shell reads it."""
        return shlex.join(self.words)


def processes(launch: Launch) -> tuple[Process, ...]:
    """What runs on each node of one copy of the server.

    Raises RefusedError where vLLM's own way to place the ranks is not known, UsageError for a value
    that its parser does not take.
    """
    layout, flags = launch.layout, dict(_flags(launch))
    partition = ",".join(map(str, layout.partition)) if layout.pipeline > 1 else ""
    environment = {PARTITION: partition} if partition else {}
    nodes = [
        Process(_checked(flags | dict(own)), launch.model, environment, gpus)
        for gpus, own in _nodes(layout, launch.node_gpus)
    ]
    return tuple(nodes)


def _flags(launch: Launch) -> Iterator[tuple[str, Value]]:
    """Arguments whose value is not vLLM's default."""
    layout, settings = launch.layout, launch.settings
    degrees = {
        "tensor-parallel-size": layout.tensor,
        "pipeline-parallel-size": layout.pipeline,
        "data-parallel-size": layout.data,
        "decode-context-parallel-size": layout.context,
        "prefill-context-parallel-size": layout.prefill,
    }
    yield from ((name, degree) for name, degree in degrees.items() if degree > 1)
    others: dict[str, Value | None] = {
        "enable-expert-parallel": layout.expert_parallel,
        **launch.options,
        "max-num-batched-tokens": settings.max_num_batched_tokens,
        "attention-backend": settings.attention_backend,
        "block-size": settings.block_size,
        "no-enable-prefix-caching": not settings.enable_prefix_caching,
        "disable-hybrid-kv-cache-manager": settings.disable_hybrid_kv_cache_manager,
        "num-gpu-blocks-override": settings.num_gpu_blocks_override,
        "enforce-eager": settings.enforce_eager,
        "limit-mm-per-prompt": settings.limit_mm_per_prompt,
    }
    for name, value in others.items():
        if value is not None and value is not False:
            yield name, value


def _checked(flags: Mapping[str, Value]) -> tuple[tuple[str, str | None], ...]:
    """Each flag with its value as text; all of them are arguments of this version."""
    pairs: list[tuple[str, str | None]] = []
    for name, value in flags.items():
        known = argument(f"--{name}")
        text = None if value is True else _text(value)
        if text is not None:
            known.check(text)
        pairs.append((known.name, text))
    return tuple(pairs)


def _text(value: Value) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    return repr(value) if isinstance(value, float) else str(value)


def _nodes(layout: Layout, node_gpus: int) -> Iterator[tuple[int, dict[str, Value]]]:
    """GPUs of each node, and the arguments that are its own.

    vLLM 0.33.0 config/parallel.py: ``nnodes`` divide the ranks of a tensor and pipeline group,
    data_parallel_size_local of a data-parallel server start on a node, all but the first headless.
    """
    group, ranks = layout.server_gpus // layout.data, layout.data
    if layout.server_gpus <= node_gpus:
        yield layout.server_gpus, {}
    elif ranks == 1:
        count = next(n for n in range(ceil_div(group, node_gpus), group + 1) if group % n == 0)
        for node in range(count):
            own: dict[str, Value] = {"nnodes": count, "node-rank": node, "master-addr": HEAD}
            yield group // count, own | _later(node)
    elif group > node_gpus:
        raise RefusedError(
            f"data-parallel ranks of {plural(group, 'GPU')} span nodes of {node_gpus}: how vLLM "
            "places these is not known",
            "a rank within a node: less tensor or pipeline parallelism",
        )
    else:
        local = next(n for n in range(node_gpus // group, 0, -1) if ranks % n == 0)
        for first in range(0, ranks, local):
            own = {"data-parallel-size-local": local, "data-parallel-address": HEAD}
            start: dict[str, Value] = {"data-parallel-start-rank": first} if first else {}
            yield local * group, own | start | _later(first)


def _later(node: int) -> dict[str, Value]:
    return {"headless": True} if node else {}
