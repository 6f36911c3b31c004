"""Deployments and what is expected of them, as a platform team keeps them in YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from kvplan.errors import SpecError, nearest
from kvplan.limits import (
    Count,
    Flag,
    Input,
    Percent,
    Reading,
    Share,
    Size,
    Text,
    WrittenBytes,
    WrittenBytesOrZero,
    WrittenTokens,
)
from kvplan.parallel import DEGREES
from kvplan.question import DEFAULT_LORA_RANK, DEFAULT_UTILIZATION, Model, Options, Question, ask
from kvplan.registry.validation import validate
from kvplan.registry.yaml import Document, Location, quoted, read_yaml
from kvplan.units import parse_layers

WrittenLayers = Annotated[tuple[Size, ...], Reading(parse_layers)]
"""Layers of each pipeline stage: a list of them, or as on the command line."""

Figure = Literal[
    "bytes_per_token",
    "fixed_bytes_per_sequence",
    "kv_bytes",
    "weights_bytes",
    "kv_available_bytes",
    "gpus",
    "max_context_tokens",
    "max_sequences",
]
"""Figures of a deployment that can be stated; sizes of one GPU but for the first two."""


@dataclass(frozen=True, kw_only=True)
class Stated(Input):
    """A figure as somebody stated it, and by how much of it kvplan may differ."""

    figure: Figure
    value: Count
    tolerance_percent: Percent = 0.0


@dataclass(frozen=True, kw_only=True)
class Expectations(Input):
    """What has to hold; a deployment is expected to fit unless ``fits`` is false."""

    fits: Flag | None = None
    min_sequences: Count | None = None
    min_context: WrittenTokens | None = None
    max_gpus: Size | None = None
    max_bytes_per_token: Count | None = None
    min_headroom_percent: Percent | None = None
    stated: tuple[Stated, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Deployment(Input):
    """A model as it is served. Names are vLLM's; what is not given is found, as by ``plan``."""

    name: Text
    model: Text
    gpu: Text
    engine: Literal["none"] = "none"
    gpus: Size | None = None
    tensor_parallel_size: Size | None = None
    pipeline_parallel_size: Size | None = None
    data_parallel_size: Size | None = None
    decode_context_parallel_size: Size | None = None
    replicas: Size | None = None
    enable_expert_parallel: Flag = False
    pipeline_partition: WrittenLayers | None = None
    context: WrittenTokens | None = None
    sequences: Count | None = None
    max_num_seqs: Size | None = None
    dtype: Text = "auto"
    quantization: Text | None = None
    kv_cache_dtype: Text = "auto"
    mamba_cache_dtype: Text = "auto"
    mamba_ssm_cache_dtype: Text = "auto"
    index_cache_dtype: Text = "auto"
    max_loras: Size | None = None
    max_lora_rank: Size = DEFAULT_LORA_RANK
    kv_offloading_size: WrittenBytes | None = None
    gpu_memory_utilization: Share = DEFAULT_UTILIZATION
    overhead: WrittenBytesOrZero | None = None
    kv_cache_memory_bytes: WrittenBytesOrZero | None = None
    draft: Flag = False
    draft_model: Text | None = None
    draft_kv_cache_dtype: Text = "auto"
    assume: Text | None = None
    """What every layer of a config.json of an unknown architecture keeps: a kind."""
    allow_uncounted: Flag = False
    """Weights that kvplan could not count whole are no reason to fail."""
    expect: Expectations = Expectations()

    @property
    def bounds_gpus(self) -> bool:
        """Whether anything keeps it from growing over more GPUs unnoticed."""
        degrees = (getattr(self, name) for name in DEGREES)
        return bool(self.gpus or self.expect.max_gpus or any(degrees))

    def question(self, model: Model, folder: Path) -> Question:
        """What is asked of this model; files are seen from ``folder``. Raises KvplanError."""
        asked = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in Options.__annotations__
        }
        others = {"context_tokens": self.context, "folder": folder}
        return ask([model], **cast("Options", asked | others))


@dataclass(frozen=True, kw_only=True)
class Deployments(Input):
    """A file of them. ``defaults`` are keys that every deployment has unless it says otherwise."""

    deployments: tuple[Deployment, ...]
    defaults: Any = None
    anchors: Any = None
    """A place for ``&anchors``, looked at by nobody."""

    def __post_init__(self) -> None:
        if not self.deployments:
            raise ValueError("deployments: there is none, so nothing would be checked")

    @classmethod
    def parts(cls) -> dict[str, type[Any]]:
        return {"deployments": Deployment, "expect": Expectations, "stated": Stated}


@dataclass(frozen=True)
class CheckFile:
    """A file's deployments, and where in it each of them stands."""

    path: Path
    document: Document
    deployments: tuple[Deployment, ...]

    def line(self, index: int, *place: str | int) -> int:
        """Line of a part of a deployment."""
        return self.document.line(("deployments", index, *place))


def read_deployments(path: Path) -> CheckFile:
    """The deployments of this file. Raises SpecError with every problem, file and line."""
    document = read_yaml(path, anchors=True)
    _check_defaults(document, path)
    _place_defaults(document)
    document = Document(_with_defaults(document.data), document.lines)
    deployments = validate(document, Deployments, path).deployments
    _check_nulls(document, path)
    _check_names(deployments, document, path)
    return CheckFile(path, document, deployments)


def _with_defaults(data: Any) -> Any:
    defaults, listed = data.get("defaults"), data.get("deployments")
    if not isinstance(defaults, dict) or not isinstance(listed, list):
        return data
    return {**data, "deployments": [_over(defaults, deployment) for deployment in listed]}


def _over(defaults: dict[str, Any], own: Any) -> Any:
    if not isinstance(own, dict):
        return own
    merged = _merged(defaults, own)
    both = [source.get("expect") for source in (defaults, own)]
    if all(isinstance(expect, dict) for expect in both):
        merged["expect"] = _merged(*both)  # type: ignore[arg-type]
    return merged


def _merged(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Both, the own keys first; null takes a default away."""
    taken_away = {key for key, value in own.items() if value is None and key in defaults}
    return {key: value for key, value in {**defaults, **own}.items() if key not in taken_away}


def _nulls(value: Any, place: Location) -> Iterator[Location]:
    """The places of every null in the value."""
    if value is None:
        yield place
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield from _nulls(each, (*place, key))


def _check_nulls(document: Document, path: Path) -> None:
    """A null that takes no default away is a value that is not there, not a key that is not."""
    problems = [
        f"{path}:{document.line(place)}: {'.'.join(map(str, place))}: is null; "
        "give it a value, or leave it out"
        for place in _nulls(document.data["deployments"], ("deployments",))
    ]
    if problems:
        raise SpecError("\n".join(problems))


def _check_defaults(document: Document, path: Path) -> None:
    defaults = document.data.get("defaults")
    if not isinstance(defaults, dict | None):
        line = document.line(("defaults",))
        raise SpecError(f"{path}:{line}: defaults: has to be a mapping")
    known = [field.name for field in fields(Deployment) if field.name != "name"]
    problems = [
        f"{path}:{document.line(('defaults', key))}: unknown key {quoted(key)} in defaults"
        + "".join(f"; did you mean {near}?" for near in nearest(str(key), known, 1, 0.5))
        for key in defaults or ()
        if key not in known
    ]
    if problems:
        raise SpecError(*problems)


def _place_defaults(document: Document) -> None:
    """What a deployment has from the defaults stands where the defaults are."""
    listed = document.data.get("deployments")
    places = [place[1:] for place in document.lines if place[:1] == ("defaults",) and place[1:]]
    for index in range(len(listed) if isinstance(listed, list) else 0):
        for place in places:
            line = document.line(("defaults", *place))
            document.lines.setdefault(("deployments", index, *place), line)


def _check_names(deployments: tuple[Deployment, ...], document: Document, path: Path) -> None:
    seen: dict[str, int] = {}
    for index, deployment in enumerate(deployments):
        line = document.line(("deployments", index, "name"))
        if deployment.name in seen:
            raise SpecError(
                f"{path}:{line}: deployment {quoted(deployment.name)} is there twice "
                f"(first on line {seen[deployment.name]})"
            )
        seen[deployment.name] = line
