"""RWKV, generations 4 to 7: no attention, a state of fixed size a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import Layer, Model, Norms, uncounted_layers
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.blocks.rwkv import Rwkv4, Rwkv7
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family, each
from kvplan.hf.families.decoder import PLAIN, model
from kvplan.hf.geometry import quotient
from kvplan.hf.layers import layer_count

_RANKS = tuple(f"{name}_low_rank_dim" for name in ("decay", "a", "v", "gate"))


def _rwkv4(config: Config) -> Model:
    """Inner widths that no key gives are the hidden size and four times it (RwkvConfig)."""
    hidden, count = config.count("hidden_size"), layer_count(config)
    inner = config.maybe("attention_hidden_size")
    block = Rwkv4(
        hidden=hidden,
        inner=inner or Figure(hidden, "no attention_hidden_size: hidden_size"),
        width=lambda: int(config.maybe("intermediate_size") or 4 * hidden),
    )

    def others() -> Sequence[Layer]:
        norms = (Norms(names=("ln1", "ln2"), bias=True),)
        return [(Norms(names=("pre_ln",), bias=True), *norms), *[norms] * (count - 1)]

    ends = partial(_ends, config, "rwkv.embeddings", "rwkv.ln_out", "head", bias=True)
    plain = model(config, PLAIN, [(block,)] * count, others)
    return replace(plain, ends=ends, root="rwkv.blocks")


def _ends(config: Config, first: str, last: str, head: str, *, bias: bool) -> Layer:
    rows = config.size("vocab_size")
    return (
        Embedding(rows=rows, name=first),
        Norms(names=(last,), bias=bias),
        Head(rows=rows, tied=tied(config, default=False), name=head),
    )


def _rwkv6(config: Config) -> Model:
    """RWKV-5 and 6 as their own modeling code has them: heads of ``head_size`` elements."""
    count, inner = layer_count(config), config.maybe("attention_hidden_size")
    config.ignore("num_attention_heads", "head_size_divisor")
    width = config.count("head_size")
    hidden = config.count("hidden_size")
    config.take("attention_hidden_size", int(inner or hidden))
    heads = quotient(config, inner or hidden, width)
    if (config.maybe("num_heads") or heads) != heads:
        config.refuse(f"num_heads is not {heads.origin}")
    block = _state(config, hidden, heads, width)
    return model(
        config, PLAIN, [(block,)] * count, uncounted_layers("no count of RWKV-5 and 6 yet")
    )


def _state(config: Config, hidden: Figure, heads: Figure, width: Figure) -> Rwkv7:
    return Rwkv7(
        hidden=hidden,
        heads=heads,
        head_width=width,
        ranks=partial(_ranks, config),
        width=partial(_width, config, hidden),
    )


def _rwkv7(config: Config) -> Model:
    """Of ``head_dim`` and ``num_heads`` the first counts (fla/layers/rwkv7.py)."""
    if config.has("attn"):
        config.refuse("attn is set: a hybrid with attention, which no published RWKV-7 is")
    count, hidden = layer_count(config), config.count("hidden_size")
    width, given = config.maybe("head_dim"), config.maybe("num_heads")
    if width is None:
        width = quotient(config, hidden, config.count("num_heads"))
    heads = quotient(config, hidden, width)
    if (given or heads) != heads:
        config.refuse(f"num_heads is {given}, but {heads.origin} is {heads}")
    plain = _state(config, hidden, heads, width)
    blocks = [replace(plain, v_width=v) for v in _value_widths(config, heads, count)]
    blocks[0] = replace(blocks[0], first=True)
    rest, ends = partial(_others, config, count), _ends_of_seven(config)
    shaped = model(config, PLAIN, [(block,) for block in blocks], rest)
    return replace(shaped, ends=ends)


def _value_widths(config: Config, heads: Figure, layers: int) -> Sequence[Figure | None]:
    """``value_dim`` of each layer over its heads; hidden size where the file has none."""
    if not isinstance(config.raw.get("value_dim"), list):
        values = [config.maybe("value_dim")] * layers
    else:
        given = config.per_layer("value_dim", config.numbers("value_dim"), layers) or ()
        values = [config.within("value_dim", value, 1, 1_000_000) for value in given]
    return [None if value is None else quotient(config, value, heads) for value in values]


def _ranks(config: Config) -> tuple[int, int, int, int]:
    decay, a, v, gate = (config.size(key) for key in _RANKS)
    return decay, a, v, gate


def _width(config: Config, hidden: int) -> int:
    """``intermediate_size``, else ``hidden_ratio`` times hidden, rounded up to 32."""
    given = config.maybe("intermediate_size")
    key, ratio = config.value("hidden_ratio")
    if given is not None:
        return int(given)
    if key and type(ratio) not in (int, float):
        raise UncountedError("hidden_ratio is not a number")
    width = -(-int(hidden * (ratio or 4)) // 32) * 32
    config.take("intermediate_size", width)
    return width


def _others(config: Config, layers: int) -> Sequence[Layer]:
    bias = config.flag("norm_bias", default=True)
    norms = (Norms(names=("attn_norm", "ffn_norm"), bias=bias),)
    first = (Norms(names=("pre_norm",), bias=bias),)
    before = first if config.flag("norm_first", default=True) else ()
    return [(*before, *norms), *[norms] * (layers - 1)]


def _ends_of_seven(config: Config) -> Callable[[], Layer]:
    def ends() -> Layer:
        bias = config.flag("norm_bias", default=True)
        return _ends(config, "model.embeddings", "model.norm", "lm_head", bias=bias)

    return ends


FAMILIES: dict[str, Family] = {
    "rwkv": Family(read=_rwkv4),
    **each("rwkv5 rwkv6", Family(read=_rwkv6)),
    "rwkv7": Family(read=_rwkv7),
    "rwkv7_fla": Family(read=_rwkv7, classes=("rwkv7",)),
}
