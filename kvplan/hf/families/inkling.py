"""Thinking Machines' Inkling: sliding and full attention, and four short convolutions a layer.

Source: transformers 5.24.0 modeling_inkling.py, modeling_inkling2.py, modeling_inkling2_loop.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import (
    Again,
    Block,
    Layer,
    Model,
    Reader,
    Tensors,
    buffer,
    extra,
    linear,
    norm,
    uncounted_layers,
    vector,
)
from kvplan.hf.blocks.ends import Embedding, Head
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.blocks.recurrent import Conv
from kvplan.hf.config import MAX_TOKENS, Config, Rule, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, alternate, model, norms
from kvplan.hf.families.experts import DEEPSEEK, dense_first, experts
from kvplan.hf.layers import agree, layer_count, layer_types, only

_FULL, _SLIDING = "hybrid", "hybrid_sliding"
_KERNEL = ("sconv_kernel_size", "conv_kernel_size")
_GEOMETRY = ("num_attention_heads", "num_key_value_heads", "head_dim")


@dataclass(frozen=True, kw_only=True)
class _Positions(Block):
    """Relative positions: ``width`` figures a head, and a bias for each distance up to ``reach``.

    A sliding layer's bias is as long as its window.
    """

    heads: int
    width: int
    reach: int

    def weights(self, hidden: int) -> Tensors:
        yield from linear("attention", "self_attn.r_proj", self.heads * self.width, hidden)
        yield from vector("attention", "self_attn.rel_logits_proj", self.width, self.reach)


@dataclass(frozen=True, kw_only=True)
class _Experts(Experts):
    """The router scores the shared experts too, ``sinks`` of them."""

    sinks: int

    def _router(self, hidden: int) -> Tensors:
        root = f"{self.root}.{self.router}"
        yield from vector("router", root, self.count + self.sinks, hidden)
        yield from vector("router", f"{root}.global_scale", 1, dtype="fp32")
        yield from buffer("router", f"{root}.e_score_correction_bias", self.count)


def _inkling(config: Config) -> Model:
    """``layer_types``, or ``local_layer_ids`` of those that slide (InklingTextConfig)."""
    count = layer_count(config)
    config.require("use_sconv", True)
    types = _types(config, count)
    layers = _layers(config, types)
    draft = _draft(config, layers, types)
    rest = partial(_others, config, types)
    return replace(model(config, PLAIN, layers, rest, draft=draft), ends=partial(_ends, config))


def _types(config: Config, layers: int, rule: Rule | None = None) -> Sequence[str]:
    """A file without either list is refused: transformers and vLLM differ on what it means."""
    local = config.numbers("local_layer_ids")
    if local is not None:
        if not all(0 <= index < layers for index in local):
            config.refuse(f"{config.name('local_layer_ids')} names a layer that does not exist")
        rule = lambda index: _SLIDING if index in set(local) else _FULL  # noqa: E731
    types = layer_types(config, layers, rule)
    only(config, "layer_types", types, _SLIDING, _FULL)
    if local is not None and rule is not None:
        agree(config, "local_layer_ids", types, rule)
    return types


def _layers(config: Config, types: Sequence[str]) -> list[Layer]:
    """Keys, values, and the outputs of attention and MLP are convolved, each on its own."""
    known: dict[str, Layer] = {}
    for kind in types:
        if kind not in known:
            known[kind] = _attention(config, sliding=kind == _SLIDING)
    config.ignore(*_GEOMETRY, *(f"swa_{key}" for key in _GEOMETRY), "sliding_window_size")
    return [known[kind] for kind in types]


def _attention(config: Config, *, sliding: bool) -> Layer:
    count, kv, width = (f"swa_{key}" if sliding else key for key in _GEOMETRY)
    heads = Attention(
        heads=config.count(count),
        kv=config.count(kv),
        width=config.count(width),
        qk_norm="head",
    )
    if sliding:
        heads = heads.sliding(
            config.count("sliding_window_size", "sliding_window", most=MAX_TOKENS)
        )
    hidden, kernel = config.count("hidden_size"), config.maybe(*_KERNEL, least=2, most=64)
    if kernel is None:
        config.missing(*_KERNEL)
    kept = heads.kv * heads.width
    return (
        heads,
        Conv(channels=kept, kernel=kernel, name="self_attn.k_sconv", heads=heads.kv),
        Conv(channels=kept, kernel=kernel, name="self_attn.v_sconv", heads=heads.kv),
        Conv(channels=hidden, kernel=kernel, name="attn_sconv"),
        Conv(channels=hidden, kernel=kernel, name="mlp_sconv"),
    )


def _draft(config: Config, layers: Sequence[Layer], types: Sequence[str]) -> list[Layer]:
    """Draft layers are of the model's own two kinds: ``mtp_config`` beside the text's section."""
    section = config.outer.section("mtp_config") if config.outer is not None else None
    source = section or config
    keys = ("num_nextn_predict_layers", "num_mtp_layers")
    number = source.maybe(*keys, least=0, most=64) or 0
    local = source.numbers("local_layer_ids" if section else "mtp_local_layer_ids") or []
    by_kind = dict(zip(types, layers, strict=True))
    wanted = [_SLIDING if index in local else _FULL for index in range(number)]
    return [by_kind.get(k) or _attention(config, sliding=k == _SLIDING) for k in wanted]


def _others(config: Config, types: Sequence[str]) -> Sequence[Layer]:
    _doubt(config)
    width, reach = config.size("d_rel"), config.size("rel_extent")
    sides = {
        kind: _Positions(
            heads=config.size("swa_num_attention_heads" if slides else "num_attention_heads"),
            width=width,
            reach=_window(config) if slides else reach,
        )
        for kind in set(types)
        for slides in (kind == _SLIDING,)
    }
    count, around = len(types), norms(PLAIN)
    blocks = alternate(count, _sparse(config, count), _experts(config), partial(_dense, config))
    scale = extra(vector("dense_mlp", "mlp.global_scale", 1))
    return [
        (block, around, sides[kind], *(() if isinstance(block, Experts) else (scale,)))
        for block, kind in zip(blocks, types, strict=True)
    ]


def _window(config: Config) -> int:
    return int(config.count("sliding_window_size", "sliding_window", most=MAX_TOKENS))


def _doubt(config: Config) -> None:
    """What the class has whatever the file says (InklingTextModel)."""
    for key in ("use_embed_norm", "use_gate_bias", "use_global_scale", "shared_expert_sink"):
        if not config.flag(key, default=True):
            raise UncountedError(f"{config.name(key)} is off, which no published file has")
    config.uncounted_if("q_bias", "o_bias")
    config.ignore("rms_norm_eps_moe_gate", "mtp_hidden_states_first", "chain_hidden_post_norm")


def _sparse(config: Config, layers: int) -> Iterable[int]:
    if config.has("mlp_layer_types"):
        return dense_first(config, layers)
    return range(config.maybe("dense_mlp_idx", least=0) or 0, layers)


def _experts(config: Config) -> _Experts:
    """``intermediate_size`` is the experts' where a file names ``dense_intermediate_size``."""
    wide = config.has("dense_intermediate_size")
    own = "intermediate_size" if wide else "moe_intermediate_size"
    plain = experts(config, replace(DEEPSEEK, width=(own,)), 1)
    figures = {key: getattr(plain, key) for key in ("expert", "count", "used", "shared")}
    return _Experts(**figures, sinks=config.size("n_shared_experts"))


def _dense(config: Config) -> MLP:
    keys = ("dense_intermediate_size", "intermediate_size")
    return MLP(width=config.size(keys[0] if config.has(keys[0]) else keys[1]))


def _ends(config: Config) -> Layer:
    """The head has the rows that are used, and is never tied."""
    config.ignore("tie_word_embeddings")
    rows = config.size("padded_vocab_size", "vocab_size")
    last = extra(
        norm("model.embed_tokens.embed_norm", config.size("hidden_size")),
        norm("model.norm", config.size("hidden_size")),
    )
    head = config.maybe("unpadded_vocab_size") or rows
    return (Embedding(rows=rows), last, Head(rows=head))


def _inkling2(*, loops: bool) -> Reader:
    """The same caches; of ``loop_num_passes`` passes over some layers, each has its own."""

    def read(config: Config) -> Model:
        count = layer_count(config)
        layers = _layers(config, _types(config, count, _last_of_six))
        if loops:
            start, end, passes = _loop(config, count)
            layers = [
                (*layer, *(Again(block) for block in layer * (passes - 1)))
                if start <= index < end
                else layer
                for index, layer in enumerate(layers)
            ]
        rest = uncounted_layers("no count of Inkling 2 yet")
        return model(config, PLAIN, layers, rest)

    return read


def _last_of_six(index: int) -> str:
    """Inkling2TextConfig, where a file gives no list."""
    return _SLIDING if (index + 1) % 6 else _FULL


def _loop(config: Config, layers: int) -> tuple[int, int, int]:
    """First looped layer, the one after the last, and passes (Inkling2LoopTextConfig)."""
    section = config.section("loop_config")
    source, names = config, ("loop_layer_index_start", "loop_layer_index_end", "loop_num_passes")
    if section is not None:
        source, names = section, ("core_start", "core_end", "num_passes")
    start, end = source.count(names[0]), source.count(names[1])
    if not start < end <= layers:
        source.refuse(f"layers {start} to {end} of {layers} cannot be looped over")
    return start, end, source.count(names[2], most=64)


_TEXT = Family(
    read=_inkling,
    classes=("inkling", "inklingmodel"),
)

FAMILIES: dict[str, Family] = {
    "inkling_text": _TEXT,
    "inkling_model": _TEXT,
    "inkling2_text": Family(
        read=_inkling2(loops=False),
        classes=("inkling2",),
    ),
    "inkling2_loop_text": Family(
        read=_inkling2(loops=True),
        classes=("inkling2loop",),
    ),
}

_AROUND = (
    Beside("vision_config", "vision tower", optional=True),
    Beside("audio_config", "audio tower", optional=True),
)

WRAPPERS: dict[str, Wrapper] = {
    "inkling_mm_model": Wrapper(text="inkling_text", classes=("inkling",), beside=_AROUND),
    "inkling2": Wrapper(text="inkling2_text", beside=_AROUND),
    "inkling2_loop": Wrapper(text="inkling2_loop_text", beside=_AROUND),
}
