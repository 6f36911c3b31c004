"""What every method of quantisation shares: its section of the file, its lists, and the scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import Config
from kvplan.hf.quantized_matrix import Layout
from kvplan.hf.quantized_rows import Scheme

MAX_NAMES = 200_000
MAX_GROUP = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Published:
    """What quantised files of one family are known to do."""

    lists_fp8: bool = False
    """fp8 files name modules that stay as they are (MiMo's o_proj): no names, a lost list."""
    fp8_scale: str = "fp32"
    fp8: Callable[[Config, Scheme, Layout], Scheme] | None = None
    """The family's own rule of what a plain fp8 file converts: section, scheme, fp8 layout."""
    mxfp4_experts: bool = False
    """quant_method mxfp4 is known: the experts' matrices, not their biases (gpt-oss)."""
    modelopt_base: Layout | None = None
    """ModelOpt exports need their list of layers and leave the rest as this base."""
    mlx_doubts: tuple[str, ...] = ()
    """Last names of modules that some releases of mlx-lm leave as they are."""
    shape_dtype: str = "int64"
    """weight_shape of compressed-tensors' packed weights (0.20.1: int64; Kimi-K2.5: int32)."""


PLAIN_FILES = Published()
"""Nothing of a family's own."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A section that names a method, and what is known of the model around it."""

    section: Config
    plain: Scheme
    """Nothing quantised yet: the dtype of what is not."""
    published: Published
    tensors: list[Tensor]
    top: Config

    def refused(self, reason: str) -> Scheme:
        """A scheme that cannot be followed: parameters are known, bytes are not."""
        return replace(self.plain, refusal=reason)

    @property
    def section_name(self) -> str:
        """The section as a person finds it in the file."""
        return self.section.prefix.rstrip(".: ")

    def listed(self, *keys: str) -> list[str]:
        """The names under all of these keys."""
        return [
            name for key in keys for name in self.section.items(key, str, "names", MAX_NAMES) or ()
        ]

    def biased(self) -> frozenset[str]:
        """Names of the modules that have a bias."""
        ends = (t.name.removesuffix(".bias") for t in self.tensors if t.name.endswith(".bias"))
        return frozenset(ends)


Method = Callable[[Question], Scheme]


def cache_scales(question: Question) -> int:
    """Layers whose KV scales the quantiser may have stored; published files differ."""
    keys = ("kv_cache_quant_algo", "kv_cache_scheme")
    if not any(question.section.raw.get(key) for key in keys):
        return 0
    outs = (t for t in question.tensors if t.part == "attention" and t.name.endswith("o_proj"))
    return sum(tensor.times for tensor in outs)


def all_but(question: Question, layout: Layout, listed: list[str], *, head: bool = False) -> Scheme:
    """The layout on every linear layer but the named ones; ``head`` has to be named to stay."""

    def of(tensor: Tensor) -> Layout | None:
        return None if tensor.part == "lm_head" and not head else layout

    return by_whole_names(question, of, listed)


def all_but_listed(question: Question, layout: Layout, key: str) -> Scheme:
    """As transformers converts: all linear layers but the listed ones, or the head without a list.

    transformers 5.24.0 quantizers/base.py (get_modules_to_not_convert).
    """
    if any(map(is_fused, question.tensors)):
        return question.refused("experts that lie in one tensor are not counted for this method")
    listed = question.listed(key)
    return all_but(question, layout, listed, head=bool(listed))


def chosen(
    question: Question, layout: Callable[[Tensor], Layout | None], listed: list[str]
) -> Scheme:
    """A layout by tensor, on all layers but those that the list names."""
    found = names.patterns(listed)
    problem = found.problem or names.lost(found, question.tensors)
    if problem is not None:
        return question.refused(f"{question.section_name}: {problem}")
    return replace(question.plain, layout=layout, skips=lambda tensor: names.skipped(found, tensor))


def by_whole_names(
    question: Question, layout: Callable[[Tensor], Layout | None], listed: list[str]
) -> Scheme:
    """As ``chosen``, refused where releases of transformers read the list apart."""
    doubtful = names.only_within(names.patterns(listed), question.tensors)
    if doubtful is not None:
        return question.refused(f"{question.section_name}: {doubtful}")
    return chosen(question, layout, listed)


def is_fused(tensor: Tensor) -> bool:
    """Experts that lie in one tensor in the model's class: no linear layers to quantise one by one.

    gpt-oss and Llama 4 hold gate and up projections as one parameter of all experts.
    """
    last = tensor.name.rsplit(".", maxsplit=1)[-1]
    return tensor.part == "routed_experts" and last in ("gate_up_proj", "input_linear")


def without_towers(scheme: Scheme) -> Scheme:
    """The scheme where it does not touch the towers around the text model."""
    inner, by_layer = scheme.layout, scheme.by_layer

    def layout(tensor: Tensor) -> Layout | None:
        return inner(tensor) if inner and tensor.part not in TOWERS else None

    def one(tensor: Tensor, layer: int) -> Layout | None:
        return by_layer(tensor, layer) if by_layer and tensor.part not in TOWERS else None

    return replace(scheme, layout=layout if inner else None, by_layer=one if by_layer else None)
