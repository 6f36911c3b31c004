"""Thinking Machines' Inkling: sliding and full attention, and four short convolutions a layer.

Source: transformers 5.24.0 modeling_inkling.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Attention, QkNorm
from kvplan.hf.blocks.base import (
    Block,
    Layer,
    Model,
    Tensors,
    buffer,
    extra,
    linear,
    norm,
    vector,
)
from kvplan.hf.blocks.ends import Embedding, Head
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.blocks.recurrent import Conv
from kvplan.hf.config import MAX_TOKENS, Config, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, alternate, model, norms
from kvplan.hf.families.experts import DEEPSEEK, dense_first, experts
from kvplan.hf.layers import Rule, agree, layer_count, layer_types, only

FULL, SLIDING = "hybrid", "hybrid_sliding"
KERNEL = ("sconv_kernel_size", "conv_kernel_size")
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
    types = types_of(config, count)
    layers = attention_layers(config, types)
    draft = _draft(config, layers, types)
    rest = partial(_others, config, types)
    return replace(model(config, PLAIN, layers, rest, draft=draft), ends=partial(_ends, config))


def types_of(config: Config, layers: int, rule: Rule | None = None) -> Sequence[str]:
    """Each layer hybrid or hybrid_sliding, by ``layer_types`` or ``local_layer_ids``.

    A file without either list is refused where no rule stands in: transformers and vLLM differ.
    """
    local = config.numbers("local_layer_ids")
    if local is not None:
        if not all(0 <= index < layers for index in local):
            config.refuse(f"{config.name('local_layer_ids')} names a layer that does not exist")
        rule = lambda index: SLIDING if index in set(local) else FULL  # noqa: E731
    types = layer_types(config, layers, rule)
    only(config, "layer_types", types, SLIDING, FULL)
    if local is not None and rule is not None:
        agree(config, "local_layer_ids", types, rule)
    return types


def attention_layers(config: Config, types: Sequence[str], qk_norm: QkNorm = "head") -> list[Layer]:
    """Keys, values, and the outputs of attention and MLP are convolved, each on its own."""
    known: dict[str, Layer] = {}
    for kind in types:
        if kind not in known:
            known[kind] = _attention(config, qk_norm, sliding=kind == SLIDING)
    config.ignore(*_GEOMETRY, *(f"swa_{key}" for key in _GEOMETRY), "sliding_window_size")
    return [known[kind] for kind in types]


def _attention(config: Config, qk_norm: QkNorm = "head", *, sliding: bool) -> Layer:
    count, kv, width = (f"swa_{key}" if sliding else key for key in _GEOMETRY)
    heads = Attention(
        heads=config.count(count),
        kv=config.count(kv),
        width=config.count(width),
        qk_norm=qk_norm,
    )
    if sliding:
        heads = heads.sliding(
            config.count("sliding_window_size", "sliding_window", most=MAX_TOKENS)
        )
    hidden, kernel = config.count("hidden_size"), config.maybe(*KERNEL, least=2, most=64)
    if kernel is None:
        config.missing(*KERNEL)
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
    wanted = [SLIDING if index in local else FULL for index in range(number)]
    return [by_kind.get(k) or _attention(config, sliding=k == SLIDING) for k in wanted]


def _others(config: Config, types: Sequence[str]) -> Sequence[Layer]:
    _doubt(config)
    width, reach = config.size("d_rel"), config.size("rel_extent")
    sides = {
        kind: _Positions(
            heads=config.size("swa_num_attention_heads" if slides else "num_attention_heads"),
            width=width,
            reach=window_tokens(config) if slides else reach,
        )
        for kind in set(types)
        for slides in (kind == SLIDING,)
    }
    count, around = len(types), norms(PLAIN)
    blocks = alternate(count, _sparse(config, count), _experts(config), partial(_dense, config))
    scale = extra(vector("dense_mlp", "mlp.global_scale", 1))
    return [
        (block, around, sides[kind], *(() if isinstance(block, Experts) else (scale,)))
        for block, kind in zip(blocks, types, strict=True)
    ]


def window_tokens(config: Config) -> int:
    """The window of the sliding layers."""
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


_TEXT = Family(
    read=_inkling,
    classes=("inkling", "inklingmodel"),
)

FAMILIES: dict[str, Family] = {
    "inkling_text": _TEXT,
    "inkling_model": _TEXT,
}

AROUND = (
    Beside("vision_config", "vision tower"),
    Beside("audio_config", "audio tower"),
)

WRAPPERS: dict[str, Wrapper] = {
    "inkling_mm_model": Wrapper(text="inkling_text", classes=("inkling",), beside=AROUND),
}
