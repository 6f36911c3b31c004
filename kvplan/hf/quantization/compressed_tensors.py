"""compressed-tensors (llm-compressor): groups of targets, each with a format.

Checked against checkpoints that compressed-tensors 0.20.1 wrote; int4 and mxfp4 met Kimi-K2.5's and
K3's published bytes.
"""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import Config, shown
from kvplan.hf.quantization.base import MAX_GROUP, Question, all_but, cache_scales
from kvplan.hf.quantized_matrix import (
    MXFP4,
    MXFP8,
    Dtypes,
    Grouped,
    Layout,
    Scaled,
    UnknownBytesError,
    nvfp4,
)
from kvplan.hf.quantized_rows import Scheme

_MAX_GROUPS = 1_000
_MAX_BITS = 8
_SIDES = 2
_NAIVE = ("int-quantized", "float-quantized", "naive-quantized")


def compressed_tensors(question: Question) -> Scheme:
    """The formats of the groups, on all that they target but the ignored modules."""
    plain = replace(question.plain, cache_scales=cache_scales(question))
    question = replace(question, plain=plain)
    problem = _problem(question.section)
    targeted = problem or _targeted(question)
    if isinstance(targeted, str):
        return question.refused(targeted)
    listed = question.listed("ignore")
    if len(targeted) == 1 and targeted[0][0] == ["Linear"]:
        return all_but(question, targeted[0][1], listed, head=True)
    return _by_target(question, targeted, listed)


def _problem(section: Config) -> str | None:
    """What cannot be followed before any group is looked at."""
    status = section.word("quantization_status")
    if status not in (None, "compressed"):
        return f"quantization_status is {shown(str(status))}"
    sparse = section.raw.get("sparsity_config")
    dense = isinstance(sparse, dict) and sparse.get("format") == "dense"
    if section.raw.get("transform_config") or (sparse and not dense):
        return "sparsity_config or transform_config is set"
    return None


Targets = list[tuple[list[str], Layout]]
"""The targets of each group, and what becomes of them."""


def _targeted(question: Question) -> Targets | str:
    """The groups, or why they are not known."""
    groups = question.section.section("config_groups")
    if groups is None or not groups.raw or len(groups.raw) > _MAX_GROUPS:
        return "config_groups has no groups of layers"
    targeted: Targets = []
    for key in groups.raw:
        group = groups.section(key)
        targets = None if group is None else group.words("targets")
        if group is None or not targets:
            return f"config_groups: {shown(key)} names no targets"
        name = str(group.word("format") or question.section.word("format") or "")
        layout = _layout(group, name, question)
        if layout is None:
            return f"compressed-tensors format {shown(name)}: not counted"
        targeted.append((targets, layout))
    return targeted


def _by_target(question: Question, targeted: Targets, listed: list[str]) -> Scheme:
    """Several groups: a module's own name goes before a pattern, and that before its class.

    compressed-tensors 0.20.1 utils/match.py:116 (match_targets); patterns in the order of their
    letters.
    """
    ignored = names.patterns(listed)
    every = [layout for targets, layout in targeted if "Linear" in targets]
    if len(every) > 1:
        return question.refused("config_groups: two groups target Linear")
    named = _named_targets(targeted)
    for found in (ignored, *(patterns for patterns, _ in named)):
        problem = found.problem or names.lost(found, question.tensors)
        if problem is None and found is not ignored:
            problem = names.unmatched(found, question.tensors)
        if problem is not None:
            return question.refused(f"{question.section_name}: {problem}")

    def by_layer(tensor: Tensor, layer: int) -> Layout | None:
        if layer in names.skipped(ignored, tensor):
            return None
        for patterns, layout in named:
            if layer in names.skipped(patterns, tensor):
                return layout
        if every and tensor.part in ("lm_head", *TOWERS):
            raise UnknownBytesError("the list of what is not quantised does not speak of it")
        return every[0] if every else None

    return replace(question.plain, by_layer=by_layer)


def _named_targets(targeted: Targets) -> list[tuple[names.Patterns, Layout]]:
    """Names of each group together, then each pattern by itself."""
    plain, regular = [], []
    for targets, layout in targeted:
        exact = [target for target in targets if target != "Linear" and target[:3] != "re:"]
        plain += [(names.patterns(exact), layout)] if exact else []
        regular += [(target, layout) for target in targets if target[:3] == "re:"]
    regular.sort(key=lambda pair: pair[0])
    return [*plain, *((names.patterns([target]), layout) for target, layout in regular)]


def _layout(group: Config, name: str, question: Question) -> Layout | None:
    """The tensors of a module by its group's format; None where they are not known."""
    weights = group.section("weights")
    if weights is None or weights.raw.get("dynamic") not in (None, False):
        return None
    bits, kind = weights.raw.get("num_bits"), weights.raw.get("type")
    if type(bits) is not int or not 1 <= bits <= _MAX_BITS or group.raw.get("output_activations"):
        return None
    size = weights.maybe("group_size", least=-1, most=MAX_GROUP)
    if name == "pack-quantized" and kind == "int":
        return _packed(weights, bits, size, question)
    blocks: dict[tuple[str, int, int | None], Layout] = {
        ("mxfp4-pack-quantized", 4, 32): MXFP4,
        ("nvfp4-pack-quantized", 4, 16): nvfp4(activations=group.has("input_activations")),
        ("mxfp8-quantized", 8, 32): MXFP8,
    }
    naive = name in _NAIVE and bits == _MAX_BITS
    found = _naive(group, weights, str(kind), size, question.plain.dtype) if naive else None
    return found or blocks.get((name, bits, size))


def _packed(weights: Config, bits: int, size: int | None, question: Question) -> Layout | None:
    """pack-quantized: int32 words, a scale in the model's dtype, weight_shape.

    Zero points are packed along the rows where the scheme is not symmetric; actorder ``group``
    (``true``) keeps the group of each column, ``weight`` and ``static`` do not.
    """
    strategy, order = weights.raw.get("strategy"), weights.raw.get("actorder")
    if order not in (None, False, True, "group", "weight", "static", "dynamic"):
        return None
    if strategy == "channel":
        group = 0
    elif strategy == "group" and size and size > 0:
        group = size
    else:
        return None
    shape = (((question.published.shape_dtype,), _SIDES, "weight_shape"),)
    return Grouped(
        bits=bits,
        group=group,
        scale=(question.plain.dtype,),
        zeros="" if weights.flag("symmetric", default=True) else "words",
        order=order in (True, "group", "dynamic"),
        scalars=shape,
    )


def _naive(
    group: Config, weights: Config, kind: str, size: int | None, dtype: str
) -> Layout | None:
    """A byte a weight, its scales, and a scale of the inputs where these are static."""
    scale: Dtypes = (dtype, "fp32") if dtype != "fp32" else ("fp32",)
    stored = {"int": "int8", "float": "fp8"}.get(kind)
    scalars = _input_scales(group, scale)
    if stored is None or scalars is None:
        return None
    zeros: Dtypes = () if weights.flag("symmetric", default=True) else ("int8",)
    block = _block(weights, size)
    if block is None or (block[0] > 1 and zeros):
        return None
    what = f"block scale {block[0]}x{block[1]}" if block[0] > 1 else "scale"
    return Scaled(stored, block, scale, what, scalars, even=block[0] == 1, zeros=zeros)


def _block(weights: Config, size: int | None) -> tuple[int, int] | None:
    """Rows and columns under one scale, 0 for all of them."""
    strategy = weights.raw.get("strategy")
    if strategy == "block":
        blocks = weights.numbers("block_structure") or []
        known = len(blocks) == _SIDES and all(1 <= side <= MAX_GROUP for side in blocks)
        return (blocks[0], blocks[1]) if known else None
    if strategy == "group":
        return (1, size) if size and size > 0 else None
    return {"channel": (1, 0), "tensor": (0, 0)}.get(str(strategy))


def _input_scales(group: Config, scale: Dtypes) -> tuple[tuple[Dtypes, int, str], ...] | None:
    inputs = group.section("input_activations")
    if inputs is None or inputs.raw.get("dynamic") is True:
        return ()
    if inputs.raw.get("strategy") not in (None, "tensor"):
        return None
    zero = () if inputs.flag("symmetric", default=True) else ((("int8",), 1, "zero points"),)
    return ((scale, 1, "activation scale per tensor"), *zero)
