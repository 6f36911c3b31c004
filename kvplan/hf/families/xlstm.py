"""NX-AI's xLSTM: a matrix memory in every layer, no attention (xLSTMConfig)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import Layer, Model, Norms
from kvplan.hf.blocks.ends import Embedding, Head
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.blocks.rwkv import MatrixMemory
from kvplan.hf.config import Config, Figure, UncountedError, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, model
from kvplan.hf.families.states import state_dtype
from kvplan.hf.geometry import quotient
from kvplan.hf.layers import layer_count

_BLOCKS = ("num_hidden_layers", "num_blocks")
_HIDDEN = ("hidden_size", "embedding_dim")
_STYLE = Style(
    layers=_BLOCKS,
    hidden=_HIDDEN,
    root="backbone.blocks",
    final="backbone.out_norm",
    ends=("backbone.embeddings", "lm_head"),
)
_ROUNDED = 64


def _xlstm(config: Config) -> Model:
    """Keys and values are fractions of the hidden size, rounded up to 64 in the state."""
    count, hidden = layer_count(config, *_BLOCKS), config.count(*_HIDDEN)
    if not config.mentions("hidden_size"):
        config.missing("hidden_size")  # xLSTMConfig has 4096 there, whatever embedding_dim says.
    heads, bias = config.count("num_heads"), config.flag("use_bias")
    keys, values = (_factor(config, key) for key in ("qk_dim_factor", "v_dim_factor"))
    widths = [
        Figure(_up(hidden * factor, _ROUNDED), f"{hidden.origin} × {key}, up to 64")
        for key, factor in (("qk_dim_factor", keys), ("v_dim_factor", values))
    ]
    block = MatrixMemory(
        heads=heads,
        keys=quotient(config, widths[0], heads),
        values=quotient(config, widths[1], heads),
        key_rows=int(hidden * keys),
        value_rows=int(hidden * values),
        bias=bias,
        state_dtype=state_dtype(config, "inference_state_dtype"),
    )
    rest = partial(_others, config, count, hidden, bias=bias)
    return replace(model(config, _STYLE, [(block,)] * count, rest), ends=partial(_ends, config))


def _factor(config: Config, key: str) -> float:
    """A factor that has to be in the file."""
    _, value = config.value(key)
    if value is None:
        config.missing(key)
    if type(value) not in (int, float) or not 0 < value <= 64:  # noqa: PLR2004 - no model is near
        config.refuse(
            f"{config.name(key)} is {shown(value)}; it has to be a factor of the hidden size"
        )
    return float(value)


def _up(number: float, multiple: int) -> int:
    return int((number + multiple - 1) // multiple) * multiple


def _others(config: Config, layers: int, hidden: int, *, bias: bool) -> Sequence[Layer]:
    if config.word("weight_mode") not in (None, "single", "fused"):
        raise UncountedError("weight_mode is not single or fused")
    width = _up(
        hidden * _factor(config, "ffn_proj_factor"), config.size("ffn_round_up_to_multiple_of")
    )
    names = ("proj_up_gate", "proj_up", "proj_down")
    mlp = MLP(width=width, bias=bias, names=names, root="ffn")
    norms = Norms(names=("norm_mlstm", "norm_ffn"), bias=bias)
    return [(mlp, norms)] * layers


def _ends(config: Config) -> Layer:
    """The head is never tied, whatever the file says (xLSTMForCausalLM); the last norm is plain."""
    rows = config.size("vocab_size")
    config.ignore("tie_word_embeddings")
    name, head = _STYLE.ends
    return (
        Embedding(rows=rows, name=name),
        Norms(names=(_STYLE.final,)),
        Head(rows=rows, name=head),
    )


FAMILIES: dict[str, Family] = {"xlstm": Family(read=_xlstm)}
