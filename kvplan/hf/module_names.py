"""Which modules the lists of a quantised checkpoint mean, by name, prefix, wildcard or pattern."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import shown

OUTSIDE = re.compile(
    r"mtp|vision|visual|audio|mm_projector|multi_modal|embed|nextn|eh_proj|indexers_proj|rotary|"
    r"kv_cache",
    re.IGNORECASE,
)
ONE_EXPERT = re.compile(r"experts\\?\.\(?\d")
# Groups of compressed-tensors go by the names of vLLM's modules where these are not the file's:
# DeepSeek-V4's experts and its fused down projection (vLLM 0.33.0
# layers/fused_moe/routed_experts.py:92 ckpt_gate_proj_name, models/deepseek_v4/attention.py:257).
_V4_EXPERT = re.compile(r"(\.ffn\.experts\..+)\.(w[123])$")
_V4_DOWN = re.compile(r"(\.attn)\.(?:wq_a|wkv)$")
_ROLES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
_TOWER = re.compile(r"vision|visual|audio", re.IGNORECASE)
_NUMBER = re.compile(r"\.(\d{1,6})(?=\.|$)")
_GLOB_NUMBER = re.compile(r"\d[*?]|[*?]\d|[\[?]")
# Letters, dots and ".*": a pattern of these alone means every layer or none.
_EVERY_LAYER = re.compile(r"(\.\*|\\\.|[A-Za-z_|()^$])*")
_BOUNDED, _STARS = 400, 8
# Each repeat within a name multiplies the places to try by its length.
_REPEAT, _REPEATS = re.compile(r"[+*{]"), 4
_NESTED_REPEAT = re.compile(r"[+*}]\)[+*{?]")


def spellings(name: str) -> tuple[str, ...]:
    """A module's name as wrappers, older releases of transformers and vLLM spell it as well."""
    served = _V4_EXPERT.sub(lambda match: f"{match[1]}.{_ROLES[match[2]]}", name)
    served = _V4_DOWN.sub(r"\1.fused_wqa_wkv", served)
    return (*_wrapped(name), *(_wrapped(served) if served != name else ()))


def spellings_in_layer(tensor: Tensor, layer: int) -> Iterator[str]:
    """Every spelling of a tensor's module on this layer; of experts, that of the first."""
    for name in spellings(tensor.name):
        yield name.replace("*", str(layer), 1).replace("*", "0", 1)


def _wrapped(name: str) -> tuple[str, ...]:
    found = [name]
    if name.startswith("model."):
        rest = name.removeprefix("model.")
        found += [f"language_model.{name}", f"model.language_model.{rest}", f"backbone.{rest}"]
    elif name.startswith("backbone."):
        found.append(name.replace("backbone.", "model.", 1))
    else:
        found += [f"language_model.{name}", f"model.{name}"]
    return tuple(found)


def _tails(name: str) -> tuple[str, ...]:
    """The name from each of its parts on: lists say ``visual`` or ``merger`` wherever these are."""
    parts = name.split(".")
    return tuple(".".join(parts[first:]) for first in range(1, len(parts)))


@dataclass
class Patterns:
    """Names of an ignore list, those of numbered layers together."""

    layers: dict[str, set[int]] = field(default_factory=dict)
    """A name with ``#`` for its layer, and the layers that it is there for."""
    plain: set[str] = field(default_factory=set)
    regular: list[re.Pattern[str]] = field(default_factory=list)
    problem: str | None = None


def patterns(names: Sequence[str]) -> Patterns:
    """The names of a list, sorted by how they have to be compared."""
    found = Patterns()
    for name in names:
        if name.startswith("re:"):
            _add_regular(found, name[3:])
            continue
        numbers = _NUMBER.findall(name)
        if _GLOB_NUMBER.search(name):
            _add_glob(found, name)
        elif len(numbers) > 1 and ".experts." in name:
            found.problem = f"{shown(name)} is one expert of many"
        elif numbers:
            key = _NUMBER.sub(".#", name, count=1)
            found.layers.setdefault(key, set()).add(int(numbers[0]))
        else:
            found.plain.add(name)
    return found


def _add_glob(found: Patterns, name: str) -> None:
    """``layers.1*`` is layer 1 and 10 and more: each layer's own name has to be asked."""
    if len(name) > _BOUNDED or name.count("*") > _STARS:
        found.problem = "a pattern that is too long, or could take forever"
    else:
        found.regular.append(re.compile(fnmatch.translate(name)))


def _add_regular(found: Patterns, text: str) -> None:
    if ONE_EXPERT.search(text):
        found.problem = f"{shown(text)} is one expert of many"
        return
    repeats = len(_REPEAT.findall(text))
    if len(text) > _BOUNDED or repeats > _REPEATS or _NESTED_REPEAT.search(text):
        found.problem = "a pattern that is too long, or could take forever"
        return
    try:
        found.regular.append(re.compile(text))
    except (re.error, OverflowError, RecursionError):
        found.problem = f"{shown(text)} is not a pattern"


def _hits(pattern: str, names: Iterable[str]) -> bool:
    """By name, by the name of a module around it, by its last words, or with wildcards."""
    for name in names:
        if name == pattern or name.startswith(f"{pattern}.") or name.endswith(f".{pattern}"):
            return True
        if "*" in pattern and fnmatch.fnmatchcase(name, pattern):
            return True
    return False


def skipped(found: Patterns, tensor: Tensor) -> frozenset[int]:
    """Layers on which the list leaves this tensor alone."""
    where = frozenset(tensor.layers or (0,))
    spelt = (*spellings(tensor.name), *(_tails(tensor.name) if tensor.part in TOWERS else ()))
    names = [name.replace("*", "#", 1).replace("*", "0", 1) for name in spelt]
    if any(_hits(pattern, names) for pattern in found.plain):
        return where
    skipped: set[int] = set()
    for pattern, layers in found.layers.items():
        if _hits(pattern, names):
            skipped |= layers
    skipped |= _skipped_by_regular(found.regular, names, where - skipped)
    return frozenset(skipped) & where


def _skipped_by_regular(
    regular: Sequence[re.Pattern[str]], names: Sequence[str], where: frozenset[int]
) -> set[int]:
    hits: set[int] = set()
    for pattern in regular:
        every = _EVERY_LAYER.fullmatch(pattern.pattern)
        for layer in [0] if every else sorted(where - hits):
            if any(pattern.match(name.replace("#", str(layer), 1)) for name in names):
                hits |= where if every else {layer}
    return hits


def _is_fused(found: Patterns, pattern: str, layers: set[int]) -> bool:
    """An engine's name for matrices that the list names one by one: ``fused_qkvbfg_a_proj``."""
    root, _, name = pattern.rpartition(".")
    parts = (found.layers.get(f"{root}.{letter}_proj", set()) for letter in "qkv")
    return "qkv" in name and all(layers <= part for part in parts)


def lost(found: Patterns, tensors: list[Tensor]) -> str | None:
    """A name in the list that fits no module: another spelling would be missed in silence."""
    names = [
        name.replace("*", "#", 1).replace("*", "0", 1)
        for tensor in tensors
        for name in spellings(tensor.name)
    ]
    most = max((max(t.layers) for t in tensors if t.layers and t.part not in TOWERS), default=0)
    for pattern, layers in found.layers.items():
        if min(layers) > most or OUTSIDE.search(pattern) or _is_fused(found, pattern, layers):
            continue
        if not _hits(pattern, names):
            return f"{shown(pattern.replace('#', str(min(layers)), 1))} is not a module known here"
    return None


def only_within(found: Patterns, tensors: list[Tensor]) -> str | None:
    """A name that is a part of modules' names (``self_attn``), and none of a module itself.

    transformers 4.57.6 leaves all of these alone (integrations/finegrained_fp8.py:373), 5.24.0
    none (quantizers/quantizers_utils.py:37).
    """
    linear = [tensor for tensor in tensors if tensor.kind == "linear"]
    for name in found.plain:
        alone = Patterns(plain={name})
        within = "*" not in name and any(name in tensor.name for tensor in linear)
        if within and not any(skipped(alone, tensor) for tensor in tensors):
            return f"{shown(name)} is a part of modules' names, and of none the whole"
    return None


def unmatched_in_towers(found: Patterns, tensors: list[Tensor]) -> bool:
    """Whether the list names a layer of a tower by a name that none here has."""
    towers = [tensor for tensor in tensors if tensor.part in TOWERS]
    return any(
        not any(skipped(Patterns(layers={key: set(t.layers or (0,))}), t) for t in towers)
        for key in found.layers
        if _TOWER.search(key)
    )


def unmatched(found: Patterns, tensors: list[Tensor]) -> str | None:
    """A name or pattern that fits no linear layer: a class, or another spelling."""
    linear = [tensor for tensor in tensors if tensor.kind == "linear"]
    spelt = [
        name.replace("*", "#", 1).replace("*", "0", 1)
        for tensor in linear
        for name in spellings(tensor.name)
    ]
    for pattern in found.plain:
        if not OUTSIDE.search(pattern) and not _hits(pattern, spelt):
            return f"{shown(pattern)} is not a module known here"
    for regular in found.regular:
        alone = Patterns(regular=[regular])
        if not OUTSIDE.search(regular.pattern) and not any(skipped(alone, t) for t in linear):
            return f"{shown(regular.pattern)} fits no module known here"
    return None
