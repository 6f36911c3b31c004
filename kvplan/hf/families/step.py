"""StepFun's Step-3, 3.5 and 3.7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf import geometry as geo
from kvplan.hf.blocks.attention import Attention, Gate
from kvplan.hf.blocks.base import Block, Kind, Layer, Model, Tensors, linear, norm
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import Style, alternate, attention, mlp, model, norms
from kvplan.hf.families.experts import USED, some_of
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, MTP, SLIDING, by_type, drafts, layer_count, layer_types
from kvplan.hf.quantization import Published

_DIALECT = replace(OWN_HEAD_DIM, kv=("num_attention_groups", "num_key_value_heads"))
_STEP3 = Style(dialect=_DIALECT)
_STEP3P5 = replace(_STEP3, qk_norm="head")
_STEP3_LAYERS = 61
"""Of stepfun-ai/step3, whose class has experts in layers 4 to 59 (vLLM 0.33.0 step3_vl.py)."""

_OTHER = "attention_other_setting"
_UNKNOWN_HEADS = (
    f"num_attention_heads, of full layers: {_OTHER}, which has the sliding ones', is missing"
)


@dataclass(frozen=True, kw_only=True)
class _LowRankQueries(Attention):
    """Queries through a low rank, keys and values as ever."""

    rank: Callable[[], int]

    def weights(self, hidden: int) -> Tensors:
        part, root, rank = "attention", self.root, self.rank()
        yield from linear(part, f"{root}.q_proj", rank, hidden)
        yield from norm(f"{root}.inter_norm", rank)
        yield from linear(part, f"{root}.wq", self.heads * self.width, rank)
        yield from linear(part, f"{root}.k_proj", self.kv * self.width, hidden)
        yield from linear(part, f"{root}.v_proj", self.kv * self.width, hidden)
        yield from linear(part, f"{root}.o_proj", hidden, self.heads * self.width)


def _step3(config: Config) -> Model:
    """Step-3: ``num_attention_groups`` KV heads."""
    heads, count = geo.heads(config, _DIALECT), layer_count(config)
    rank = partial(config.size, "share_q_dim")
    layer = (_LowRankQueries(heads=heads.count, kv=heads.kv, width=heads.width, rank=rank),)
    draft = [layer] * never(config, count).draft

    def others() -> Sequence[Layer]:
        known = range(4, _STEP3_LAYERS - 1) if count == _STEP3_LAYERS else None
        around = norms(_STEP3)
        return [(block, around) for block in _feed_forward(config, count, None, known)]

    return model(config, _STEP3, [layer] * count, others, draft=draft)


def _feed_forward(
    config: Config, layers: int, correction: Kind | None, known: Sequence[int] | None = None
) -> list[Block]:
    where = _expert_layers(config, layers, known)
    moe = _experts(config, correction)
    return alternate(layers, where, moe, partial(mlp, config, _STEP3))


def _experts(config: Config, correction: Kind | None) -> Experts:
    shared = MLP(width=config.size("share_expert_dim", "share_expert_dims"), root="share_expert")
    count = config.size("moe_num_experts", "num_experts")
    return Experts(
        expert=MLP(width=config.size("moe_intermediate_size")),
        count=count,
        used=some_of(config, count, config.size("moe_top_k", *USED), "moe_top_k"),
        shared=shared,
        correction=correction,
        root="moe",
    )


def _expert_layers(config: Config, layers: int, known: Sequence[int] | None) -> Sequence[int]:
    """``moe_layers_enum`` "4,5,...,59", or every layer from ``first_k_dense_replace`` on."""
    named = config.word("moe_layers_enum")
    if named is None:
        return known or range(config.size("first_k_dense_replace", least=0), layers)
    numbers = [text.strip() for text in named.split(",") if text.strip()]
    if not all(text.isdecimal() and len(text) < 6 and int(text) < layers for text in numbers):  # noqa: PLR2004 - more digits than layers
        config.refuse("moe_layers_enum names a layer that does not exist")
    return [int(text) for text in numbers]


def _step3p5(config: Config) -> Model:
    """Step-3.5: sliding layers have heads of their own, every head a gate.

    vLLM 0.33.0 step3p5.py:73-84: KV heads and head width are the model's.
    """
    full = attention(config, _STEP3P5)
    count, draft = layer_count(config), drafts(config, MTP)
    sliding_heads = _sliding_heads(config, full)
    local = replace(full, heads=sliding_heads or Figure(full.heads, _UNKNOWN_HEADS))
    listed = config.words("layer_types") or []
    types = layer_types(config, count, None, draft)
    extra = listed[count:] or (config.words("mtp_layer_types") or [])
    kinds: dict[str, Callable[[], Layer]] = {
        FULL: lambda: (full,),
        SLIDING: lambda: (local.sliding(geo.needed_window(config)),),
    }
    layers, more = by_type(config, types, kinds), by_type(config, extra, kinds)

    rows = {FULL: full.heads, SLIDING: sliding_heads}
    rest = partial(_step3p5_others, config, [rows[kind] for kind in types])
    return model(config, _STEP3P5, layers, rest, draft=more)


def _step3p5_others(config: Config, heads: Sequence[int | None]) -> Sequence[Layer]:
    """A gate a head, an MLP or experts, and norms; ``heads`` are those of each layer."""
    if None in heads:
        raise UncountedError(f"{_OTHER}, which has the heads of sliding layers, is not in the file")
    gates = {rows: Gate(rows=rows, name="self_attn.g_proj") for rows in heads if rows}
    around, blocks = norms(_STEP3P5), _feed_forward(config, len(heads), "buffer")
    return [(gates[rows], block, around) for rows, block in zip(heads, blocks, strict=True) if rows]


def _sliding_heads(config: Config, full: Attention) -> Figure | None:
    """Attention heads of sliding layers, None where the file does not tell them."""
    named, other = config.maybe("num_sliding_attention_heads"), config.section(_OTHER)
    if other is None:
        return named
    other.require("attention_type", SLIDING)
    other.require("num_attention_groups", int(full.kv))
    other.require("head_dim", int(full.width))
    heads = other.count("num_attention_heads")
    if named not in (None, heads):
        config.refuse(f"{heads.origin} is {heads}, but num_sliding_attention_heads is {named}")
    return named or heads


FAMILIES: dict[str, Family] = {
    "step3_text": Family(read=_step3, classes=("step3text", "step3")),
    "step3p5": Family(read=_step3p5, classes=("step3p7", "step3p7flash")),
    "step3p7": Family(
        read=_step3p5,
        classes=("step3p7flash", "step3p5"),
        sees=True,
        # Published fp8 files name modules that stay as they are.
        published=Published(lists_fp8=True),
    ),
}

WRAPPERS: dict[str, Wrapper] = {
    "step3_vl": Wrapper(text="step3_text", classes=("step3vl",)),
    "step3p7": Wrapper(optional=True, text="step3p5"),
}
