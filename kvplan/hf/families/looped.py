"""Models that run the same layers several times: each pass keeps keys and values of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention, Gate
from kvplan.hf.blocks.base import Again, Extra, Layer, Model, Stack, extra, linear, vector
from kvplan.hf.config import Config, Figure, shown
from kvplan.hf.families.base import Family, each
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    LLAMA,
    MLP_BIAS,
    PRE_NORM,
    Style,
    attention,
    ends,
    mlp,
    model,
    norms,
)
from kvplan.hf.families.windows import by_name
from kvplan.hf.geometry import DENSE, OWN_HEAD_DIM, Dialect, window
from kvplan.hf.layers import layer_count, layer_types, one_full_in

MAX_LOOPS = 1_000

_HRM = replace(LLAMA, norms=(), final="", root="model.L_module.layers")
_HRM_HEADS = Dialect(kv=())
_LOOPCODER = "vLLM 0.33.0 iquest_loopcoder.py:99"
_OURO = replace(
    LLAMA,
    dialect=DENSE,
    bias=False,
    mlp_bias=False,
    norms=(*PRE_NORM, "input_layernorm_2", "post_attention_layernorm_2"),
)
_DORY = Style(
    dialect=OWN_HEAD_DIM,
    bias=ATTENTION_BIAS,
    mlp_bias=MLP_BIAS,
    norms=(),
    final="",
    uncounted_if=("attention_bias", "mlp_bias"),
)


def again(layers: Sequence[Layer]) -> list[Layer]:
    """The same layers once more, with caches of their own."""
    return [tuple(Again(block) for block in layer) for layer in layers]


def _hrm_text(config: Config) -> Model:
    """Two stacks of layers: L runs ``L_cycles`` times and H once, ``H_cycles`` times over.

    Every pass keeps its own keys and values (modeling_hrm_text.py, vLLM 0.33.0 hrm_text.py:188).
    """
    config.ignore("num_key_value_heads")
    high, low = (config.count(key, most=MAX_LOOPS) for key in ("H_cycles", "L_cycles"))
    passes = high * (low + 1)
    count = _layers_of_a_stack(config, passes)
    heads = attention(config, replace(_HRM, dialect=_HRM_HEADS))
    layers: list[Layer] = [(heads,)] * count
    for _ in range(passes - 1):
        layers += again([(heads,)] * count)

    def rest() -> Layer:
        gate = Gate(rows=heads.heads * heads.width, bias=heads.bias)
        return (mlp(config, _HRM), gate)

    def others() -> Sequence[Layer]:
        return [rest()] * count + [()] * (len(layers) - count)

    plain = model(config, _HRM, layers, others, layers_key=f"{count.origin} × {passes} passes")
    return replace(
        plain,
        stacks=lambda: (Stack(root="model.H_module.layers", layers=((heads, *rest()),) * count),),
        ends=lambda: (
            *ends(config, _HRM),
            extra(vector("other", "model.z_L_init", config.size("hidden_size"))),
        ),
    )


def _layers_of_a_stack(config: Config, passes: int) -> Figure:
    """``num_layers_per_stack``, and ``num_hidden_layers`` then is that of all passes together.

    Older files give the layers of one stack as ``num_hidden_layers``.
    """
    total, own = layer_count(config), config.maybe("num_layers_per_stack")
    if own is not None and own * passes != total:
        config.refuse(
            f"{total.origin} is {total}, not {own.origin} × H_cycles × (L_cycles + 1) = "
            f"{own * passes}"
        )
    return total if own is None else own


def _ouro(config: Config) -> Model:
    """All layers ``total_ut_steps`` times (its own modeling_ouro.py: one cache a step)."""
    config.ignore("early_exit_threshold")
    heads, count = attention(config, _OURO), layer_count(config)
    steps = config.count("total_ut_steps", most=MAX_LOOPS)
    types = layer_types(config, count, lambda _: "full_attention")
    if config.flag("use_sliding_window") or set(types) != {"full_attention"}:
        config.refuse("Ouro with a sliding window is not known")
    config.ignore("sliding_window", "max_window_layers")
    once: list[Layer] = [(heads,)] * count
    layers = once + again(once) * (steps - 1)

    def others() -> Sequence[Layer]:
        layer = (mlp(config, _OURO), norms(_OURO))
        return [layer] * count + [()] * (len(layers) - count)

    key = f"{count.origin} × {steps.origin}"
    plain = model(config, _OURO, layers, others, layers_key=key)
    return replace(plain, ends=lambda: (*ends(config, _OURO), _exit_gate(config)))


def _exit_gate(config: Config) -> Extra:
    """Says after a pass whether that was enough."""
    name, hidden = "model.early_exit_gate", config.size("hidden_size")
    return extra(linear("other", name, 1, hidden, bias=True))


def _loopcoder(config: Config) -> Model:
    """The first pass keeps every token, the later ones the last ``loop_window_size``."""
    style = replace(LLAMA, dialect=DENSE, bias=ATTENTION_BIAS)
    heads, count = attention(config, style), layer_count(config)
    loops = config.maybe("loop_num", most=MAX_LOOPS)
    size = window(config, "loop_window_size")
    loops = loops or Figure(2, f"no loop_num: 2 in {_LOOPCODER}")
    size = size or Figure(64, f"no loop_window_size: 64 in {_LOOPCODER}")
    config.take("loop_num", int(loops))
    config.take("loop_window_size", int(size))
    once: list[Layer] = [(heads,)] * count
    layers = once + again([(heads.sliding(size),)] * count) * (loops - 1)

    def others() -> Sequence[Layer]:
        gates = extra(
            vector("attention", "gate_projections.weight", heads.heads, heads.width),
            vector("attention", "gate_projections.bias", heads.heads),
        )
        layer = (mlp(config, style), norms(style), gates)
        return [layer] * count + [()] * (len(layers) - count)

    key = f"{count.origin} × {loops.origin}"
    return model(config, style, layers, others, layers_key=key)


def _dory(config: Config) -> Model:
    """Layers before, between and after; those between run ``n_recurrent_loops`` times.

    ``recurrent_kv_cache_mode`` says whether each pass keeps its own keys and values (DoryConfig).
    """
    types, sections = _sections(config)
    heads = attention(config, _DORY)
    layers = [(heads.sliding(size) if size else heads,) for size in by_name(config, types)]
    before, between = sections
    loops = config.count("n_recurrent_loops", most=MAX_LOOPS)
    mode = config.word("recurrent_kv_cache_mode")
    if mode not in ("per_loop", "last_loop"):
        name = config.name("recurrent_kv_cache_mode")
        config.refuse(f"{name} is {shown(mode)}; known are per_loop and last_loop")
    middle = layers[before : before + between]
    more = again(middle) * (loops - 1) if mode == "per_loop" else []
    after = layers[before + between :]

    def others() -> Sequence[Layer]:
        config.uncounted_if(*_DORY.uncounted_if)
        rest = _dory_rest(config, heads)
        return [rest] * (before + between) + [()] * len(more) + [rest] * len(after)

    plain = model(config, _DORY, [*layers[: before + between], *more, *after], others)
    return replace(plain, ends=lambda: (*ends(config, _DORY), _logit_scale(config)))


def _logit_scale(config: Config) -> Extra:
    return extra(vector("lm_head", "lm_head.logit_scale", config.size("vocab_size")))


def _sections(config: Config) -> tuple[Sequence[str], tuple[int, int]]:
    """Types of all layers, and how many stand before the recurrent ones and among them.

    Released files count an attention and an MLP as two, and name both in ``layer_types``.
    """
    count, types = layer_count(config), config.words("layer_types")
    blocks = types is not None and "mlp" in types
    if types is not None and blocks:
        config.per_layer("layer_types", types, count)
        if count % 2 or set(types[1::2]) != {"mlp"} or "mlp" in types[::2]:
            config.refuse("layer_types has to alternate between an attention and mlp")
        types = types[::2]
    else:
        types = list(layer_types(config, count, one_full_in(4)))
    step = 2 if blocks else 1
    before = config.count("n_input_layers", least=0) // step
    after = config.count("n_output_layers", least=0) // step
    given = config.maybe("n_recurrent_layers", least=0)
    between = len(types) - before - after if given is None else given // step
    if between < 0 or before + between + after != len(types):
        config.refuse("n_input_layers, n_recurrent_layers and n_output_layers are not all layers")
    return types, (before, between)


def _dory_rest(config: Config, heads: Attention) -> Layer:
    """A gate, an MLP, and the scales of a normalised transformer (modeling_dory.py)."""
    rows, hidden, width = heads.heads * heads.width, config.size("hidden_size"), mlp(config, _DORY)
    scales: tuple[tuple[str, str, int], ...] = (
        ("attention", "self_attn.sqk", rows),
        ("attention", "self_attn.s_gate", rows),
        ("dense_mlp", "mlp.suv_gate", width.width),
        ("dense_mlp", "mlp.suv_up", width.width),
        ("other", "lambda_1", hidden),
        ("other", "lambda_2", hidden),
    )
    return (Gate(rows=rows), width, extra(*(vector(*scale) for scale in scales)))


FAMILIES: dict[str, Family] = {
    "dory": Family(read=_dory),
    "hrm_text": Family(read=_hrm_text),
    "ouro": Family(read=_ouro),
    **each("iquestloopcoder iquest_loopcoder", Family(read=_loopcoder)),
}
