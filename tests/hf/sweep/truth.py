"""What transformers itself makes of a config: its parameters, and the cache it fills."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

from tests.hf.sweep.elements import Kept

SHORT, LONG = 24, 40
"""Tokens of the two passes; both are longer than a window."""
NOT_LOADED = "does not load"
"""How the problem of a file begins that transformers itself refuses."""


@dataclass
class Truth:
    """The answer of transformers; what it could not give says why."""

    total: int | None = None
    language: int | None = None
    """Parameters of the language model alone, where the class has one under that name."""
    kept: Kept | None = None
    problem: str = ""
    shapes: list[Any] = field(default_factory=list)


def parameters(config: Any) -> tuple[int, int | None]:
    """Parameters of the model of this config on the meta device, a tied head once.

    Without multi-token prediction layers, which these classes do not build. The second number is
    the language model's own.
    """
    model_class = getattr(transformers, config.architectures[0])
    with torch.device("meta"):
        model = model_class(copy.deepcopy(config))
    model.tie_weights()
    named = {id(tensor): (name, tensor.numel()) for name, tensor in model.named_parameters()}
    nothing = _of_nothing(model)
    own = [size for name, size in named.values() if _LANGUAGE.search(name)]
    apart = any(re.search(r"(^|\.)language_model\.", name) for name, _ in named.values())
    total = sum(size for _, size in named.values()) - nothing
    return total, sum(own) - nothing if apart else None


_LANGUAGE = re.compile(r"(^|\.)language_model\.|^(thinker\.)?lm_head\.")


def _of_nothing(model: Any) -> int:
    """LongcatFlashExperts makes rows for experts that do nothing, which no checkpoint has."""
    return sum(
        module.gate_up_proj[module.num_routed_experts :].numel()
        for module in model.modules()
        if type(module).__name__ == "LongcatFlashExperts"
    )


def kept(config: Any) -> tuple[Kept, list[Any]]:
    """The cache after a pass over text alone, by elements."""
    torch.manual_seed(0)
    model_class = getattr(transformers, config.architectures[0])
    config = copy.deepcopy(config)
    with contextlib.suppress(Exception):
        config._attn_implementation = "eager"  # noqa: SLF001 - transformers documents it so
    model = model_class(config).eval()
    first, second = (_cache(model, tokens) for tokens in (SHORT, LONG))
    found, shapes = _kept(first, second)
    if type(model).__name__.startswith("Zaya"):
        found.conv = sum(state[0] * state[1] * state[2] for state in _convolutions(second))
    return found, shapes


def _convolutions(cache: Any) -> Iterator[tuple[int, ...]]:
    for layer in cache.layers:
        states = getattr(layer, "conv_states", None)
        for tensor in states.values() if isinstance(states, dict) else [states]:
            if tensor is not None:
                yield tuple(tensor.shape)


def _cache(model: Any, tokens: int) -> Any:
    ids = torch.arange(tokens).remainder(90).add(3)[None]
    with torch.no_grad():
        out = model(input_ids=ids, use_cache=True)
    cache = getattr(out, "past_key_values", None)
    if cache is None:
        cache = getattr(out, "cache_params", None)
    return cache


def _kept(first: Any, second: Any) -> tuple[Kept, list[Any]]:
    found, shapes = Kept(), []
    for before, after in zip(first.layers, second.layers, strict=True):
        shapes.append(
            (type(after).__name__, _attention(found, before, after), _states(found, after))
        )
    # MiniMaxCache keeps the states of its lightning layers in a list of its own.
    for tensor in getattr(second, "linear_cache", ()):
        found.state += tensor.numel() if len(tensor) else 0
    return found, shapes


def _elements(tensor: Any) -> int:
    return 0 if tensor is None else int(tensor.numel())


def _attention(found: Kept, before: Any, after: Any) -> Any:
    """Keys and values of a layer; sliding ones keep window - 1 tokens and are taken at window.

    A layer that reads another's (Mistral Large 4) may have index keys of its own all the same.
    """
    for name in ("indexer_keys", "idx_keys"):
        more = _elements(getattr(after, name, None)) - _elements(getattr(before, name, None))
        found.index += more // (LONG - SHORT)
    keys, values = getattr(after, "keys", None), getattr(after, "values", None)
    if keys is None or values is None or not keys.numel():
        return None
    old = _elements(before.keys) + _elements(before.values)
    new = _elements(keys) + _elements(values)
    window = getattr(after, "sliding_window", None)
    if window:
        found.window += new // keys.shape[-2] * window
    else:
        found.growth += (new - old) // (LONG - SHORT)
    return tuple(keys.shape), tuple(values.shape), window


def _states(found: Kept, layer: Any) -> Any:
    """States; transformers keeps as many columns as the kernel, engines without the newest.

    ZAYA's class keeps them without the newest too.
    """
    shapes = []
    for name in ("conv_states", "recurrent_states"):
        states = getattr(layer, name, None)
        listed = states.values() if isinstance(states, dict) else [states]
        for tensor in listed:
            if tensor is None:
                continue
            if name == "conv_states":
                width = tensor.shape[-1]
                found.conv += tensor.numel() // width * (width - 1)
            else:
                found.state += tensor.numel()
            shapes.append(tuple(tensor.shape))
    return shapes


def truth(config: Any, *, caches: bool = True) -> Truth:
    """All of it, with the problem where a part cannot be had."""
    answer = Truth()
    try:
        answer.total, answer.language = parameters(config)
    except Exception as error:  # noqa: BLE001 - whatever a class raises is its answer
        answer.problem = f"not built: {type(error).__name__}: {error}"[:300]
        return answer
    if caches:
        try:
            answer.kept, answer.shapes = kept(config)
        except Exception as error:  # noqa: BLE001
            answer.problem = f"no pass: {type(error).__name__}: {error}"[:300]
    return answer
