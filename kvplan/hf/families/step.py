"""StepFun's Step-3, 3.5 and 3.7."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf import geometry as geo
from kvplan.hf.blocks.attention import Attention, head_gate
from kvplan.hf.blocks.base import Block, Layer, Model, Tensors, linear, norm
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import Style, attention, decoder, stack
from kvplan.hf.families.experts import USED, Mixture
from kvplan.hf.families.per_layer import per_layer_heads
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, MTP, SLIDING, by_type, drafts, layer_count, layer_types
from kvplan.hf.quantization import Published

_DIALECT = replace(OWN_HEAD_DIM, kv=("num_attention_groups", "num_key_value_heads"))
_STEP3 = Style(dialect=_DIALECT)
_STEP3P5 = replace(_STEP3, qk_norm="head")
_EXPERTS = Mixture(
    count=("moe_num_experts", "num_experts"),
    used=("moe_top_k", *USED),
    shared_width=("share_expert_dim", "share_expert_dims"),
    no_shared="zero",
    shared_root="share_expert",
    root="moe",
)
_BALANCED = replace(_EXPERTS, correction="buffer")
_STEP3_LAYERS = 61
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


def _step3_heads(config: Config, style: Style) -> Attention:
    """Step-3: ``num_attention_groups`` KV heads."""
    heads, rank = geo.heads(config, style.dialect), partial(config.size, "share_q_dim")
    return _LowRankQueries(heads=heads.count, kv=heads.kv, width=heads.width, rank=rank)


def _expert_layers(config: Config, layers: int) -> Sequence[int]:
    """``moe_layers_enum`` "4,5,...,59", or every layer from ``first_k_dense_replace`` on."""
    named = config.word("moe_layers_enum")
    if named is None:
        return range(config.size("first_k_dense_replace", least=0), layers)
    numbers = [text.strip() for text in named.split(",") if text.strip()]
    if not all(text.isdecimal() and len(text) < 6 and int(text) < layers for text in numbers):  # noqa: PLR2004 - more digits than layers
        config.refuse("moe_layers_enum names a layer that does not exist")
    return [int(text) for text in numbers]


def _step3_expert_layers(config: Config, layers: int) -> Sequence[int]:
    """Layers 4 to 59 of stepfun-ai/step3's 61 (vLLM 0.33.0 step3_vl.py), unless the file says."""
    if layers != _STEP3_LAYERS or config.has("moe_layers_enum"):
        return _expert_layers(config, layers)
    return range(4, _STEP3_LAYERS - 1)


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
    section = config.section("per_layer_config")
    if section is not None:
        heads = [block for layer in layers for block in layer if isinstance(block, Attention)]
        layers = tuple((block,) for block in per_layer_heads(section, heads))

    def gate(_: Config, block: Block) -> Layer:
        if sliding_heads is None and SLIDING in types:
            raise UncountedError(
                f"{_OTHER}, which has the heads of sliding layers, is not in the file"
            )
        return head_gate(config, block) if isinstance(block, Attention) else ()

    return stack(config, _STEP3P5, layers, _BALANCED, _expert_layers, beside=gate, draft=more)


def _sliding_heads(config: Config, full: Attention) -> Figure | None:
    """Attention heads of sliding layers, None where the file does not tell them.

    Where transformers saved the file they stand in ``per_layer_config``, as changes of the
    model's own (Step3p5Config).
    """
    named, other = config.maybe("num_sliding_attention_heads"), config.section(_OTHER)
    if config.has("per_layer_config"):
        return Figure(full.heads, "num_attention_heads")
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
    "step3_text": Family(
        read=decoder(_STEP3, never, _EXPERTS, _step3_expert_layers, heads=_step3_heads),
        classes=("step3text", "step3"),
    ),
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
