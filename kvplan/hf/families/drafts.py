"""Drafts of speculative decoding: small models whose files name the class of a whole one.

EAGLE-3 and P-EAGLE see the target's hidden states beside the token, DFlash fills a block of
tokens at once. Embedding and head may be the target's own. Known by their class alone: the
model_type of such a file is that of the layers, llama or qwen3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf import geometry as geo
from kvplan.hf.blocks.base import Layer, Model, Norms, Reader, buffer, extra, linear, vector
from kvplan.hf.blocks.ends import Embedding, Head
from kvplan.hf.config import MAX_TOKENS, Config, Figure, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import (
    PRE_NORM,
    Style,
    attention,
    decoder,
    mlp,
    model,
    norms,
    uncounted,
)
from kvplan.hf.families.qwen import QWEN3
from kvplan.hf.families.windows import WindowPlan, Windows, by_name, mixed
from kvplan.hf.geometry import DENSE
from kvplan.hf.layers import FULL, layer_count, layer_types

_STYLE = Style(dialect=DENSE, uncounted_if=("attention_bias", "mlp_bias"))
_QWEN3 = replace(QWEN3, tie=None)
_FIRST = (*PRE_NORM, "hidden_norm")
_AUX = 3
"""Hidden states of the target that a draft sees where the file lists no layers of it."""


def _off(config: Config, layers: Figure) -> WindowPlan:
    """No layer slides: LlamaConfig knows no window, and the target's stands in some files."""
    if config.has("sliding_window") and config.flag("use_sliding_window", default=True):
        config.refuse(f"{config.name('sliding_window')} is set, and this draft has no window")
    config.ignore("sliding_window", "use_sliding_window", "max_window_layers")
    types = config.words("layer_types")
    if types is not None and set(types) != {FULL}:
        config.refuse("layer_types names other layers than full_attention")
    return WindowPlan([None] * layers)


def _eagle3(config: Config, style: Style = _STYLE, windows: Windows = _off) -> Model:
    """LlamaForCausalLMEagle3: one layer (SpecForge modeling/draft/llama3_eagle.py:1654)."""
    plain = _seeing_target(config, style, windows)
    if len(plain.layers) == 1:
        return plain
    return replace(plain, others=partial(_several_layers, len(plain.layers)))


def _several_layers(layers: int) -> Sequence[Layer]:
    raise UncountedError(f"an EAGLE-3 draft of {layers} layers, where its own code builds one")


def _p_eagle(config: Config) -> Model:
    """PEagleDraftModel: layers of Llama after the first (SpecForge modeling/draft/peagle.py)."""
    plain = _seeing_target(config, _STYLE, _off)

    def ends() -> Layer:
        mask = vector("other", "mask_hidden", _seen(config))
        return (*plain.ends(), extra(mask))

    return replace(plain, ends=ends)


def _seeing_target(config: Config, style: Style, windows: Windows) -> Model:
    """The first layer sees the token and the hidden state, each of the hidden size."""
    count, heads = layer_count(config), attention(config, style)
    spans = windows(config, count).windows
    config.ignore("tie_word_embeddings", "norm_before_residual", "norm_output")
    hidden = config.maybe("hidden_size")
    first = replace(heads, into=None if hidden is None else 2 * hidden)
    layers = [
        (block.sliding(span) if span else block,)
        for block, span in zip([first, *[heads] * (count - 1)], spans, strict=True)
    ]

    def others() -> Sequence[Layer]:
        config.uncounted_if(*_STYLE.uncounted_if, "bias")
        block = mlp(config, style)
        rest = (block, norms(style))
        return [(block, Norms(names=_FIRST)), *[rest] * (count - 1)]

    return replace(model(config, style, layers, others), ends=partial(_eagle_ends, config))


def _eagle_ends(config: Config) -> Layer:
    """Embedding, the projection of the target's states, last norm, head and the ids' tables.

    The head is never the embedding, whatever tie_word_embeddings says: its rows are fewer.
    """
    vocab, hidden = config.size("vocab_size"), config.size("hidden_size")
    rows = config.maybe("draft_vocab_size") or vocab
    seen = _seen(config)
    return (
        Embedding(rows=vocab),
        extra(
            linear("other", "fc", hidden, seen),
            buffer("other", "d2t", rows, dtype="int64"),
            buffer("other", "t2d", vocab, dtype="bool"),
        ),
        _fc_norms(config, seen),
        Norms(names=("model.norm",)),
        Head(rows=rows),
    )


def _seen(config: Config) -> int:
    """Elements of the target's hidden states together (vLLM 0.33.0 llama_eagle3.py:215)."""
    section = config.section("eagle_config")
    listed = section.numbers("eagle_aux_hidden_state_layer_ids") if section else None
    if section and not section.flag("use_aux_hidden_state", default=True):
        raise UncountedError("use_aux_hidden_state is off")
    states = config.maybe("num_aux_hidden_states") or len(listed or ()) or _AUX
    return states * (config.maybe("target_hidden_size") or config.size("hidden_size"))


def _fc_norms(config: Config, seen: int) -> Norms:
    """One norm of each state with ``fc_norm``, one of all with ``norm_before_fc``."""
    section = config.section("eagle_config") or config
    before = section.flag("norm_before_fc") or config.flag("norm_before_fc")
    width = seen if before or config.flag("fc_norm") else 0
    names = ("fc_norm",) if width else ()
    if before and config.flag("fc_norm"):
        raise UncountedError("fc_norm and norm_before_fc are both on")
    return Norms(names=names, width=width or None)


def _dflash(config: Config) -> Model:
    """DFlashDraftModel: Qwen-3's layers, no embedding and no head of its own.

    SpecForge modeling/draft/dflash.py:336; windows as vLLM 0.33.0 qwen3_dflash.py:96 reads them.
    """
    section = config.section("dflash_config")
    count, full = layer_count(config), attention(config, _QWEN3)
    layers = [
        (full.sliding(size) if size else full,) for size in _dflash_windows(config, section, count)
    ]

    def others() -> Sequence[Layer]:
        return [(mlp(config, _QWEN3), norms(_QWEN3))] * count

    def ends() -> Layer:
        config.ignore("tie_word_embeddings", "vocab_size")
        listed = section.numbers("target_layer_ids") if section else None
        if not listed:
            raise UncountedError("dflash_config.target_layer_ids is not in the file")
        hidden = config.size("hidden_size")
        if section and section.has("projector_type"):
            raise UncountedError("dflash_config.projector_type is set")
        seen = len(listed) * (config.maybe("target_hidden_size") or hidden)
        projection = extra(linear("other", "fc", hidden, seen))
        return (projection, Norms(names=("hidden_norm", "norm")))

    return replace(model(config, _QWEN3, layers, others), ends=ends)


def _dflash_windows(
    config: Config, section: Config | None, layers: Figure
) -> Sequence[Figure | int | None]:
    """``use_swa`` slides every layer where ``layer_types`` names none that does."""
    types = list(layer_types(config, layers, lambda _: FULL))
    slides = section is not None and section.flag("use_swa")
    own = section.maybe("swa_window_size", most=MAX_TOKENS) if section else None
    config.ignore("sliding_window", "use_sliding_window", "max_window_layers", "is_causal")
    if slides and set(types) == {FULL}:
        return [own or geo.needed_window(config)] * layers
    if own is not None and set(types) != {FULL}:
        return [None if kind == FULL else own for kind in types]
    return by_name(config, types)


_EAGLE = uncounted(
    decoder(_STYLE, _off),
    "implementations of EAGLE differ on its projection's bias, its norms and its head "
    "(vLLM 0.33.0 llama_eagle.py, SGLang llama_eagle.py)",
)


def _as_draft(read: Reader, *more: str) -> Family:
    """The reader of a draft, with what every answer has to say of one."""
    notes = ("a draft of speculative decoding: its cache stands beside the target's", *more)
    return Family(read=lambda config: replace(read(config), assumptions=notes))


_EMBEDDING = "the draft's embedding is counted; files that SpecForge saves leave it to the target"
_EAGLE3 = _as_draft(_eagle3, _EMBEDDING)
_P_EAGLE = _as_draft(_p_eagle, _EMBEDDING)
# Qwen-3's layers, which may slide (vLLM 0.33.0 qwen3_eagle3.py:34).
_EAGLE3_QWEN3 = _as_draft(
    partial(_eagle3, style=_QWEN3, windows=mixed(rule=lambda _: FULL)), _EMBEDDING
)

DRAFTS: dict[str, Family] = {
    "LlamaForCausalLMEagle3": _EAGLE3,
    # vLLM 0.33.0 model_executor/models/registry.py: llama_eagle3 for each of these
    "Eagle3LlamaForCausalLM": _EAGLE3,
    "Eagle3MiniMaxM2ForCausalLM": _EAGLE3,
    "Eagle3Qwen2_5vlForCausalLM": _EAGLE3,
    "Eagle3Qwen3vlForCausalLM": _EAGLE3,
    "Eagle3Qwen3ForCausalLM": _EAGLE3_QWEN3,
    "Qwen3ForCausalLMEagle3": _EAGLE3_QWEN3,
    "PEagleDraftModel": _P_EAGLE,
    "PeagleLlamaForCausalLM": _P_EAGLE,
    "LlamaForCausalLMEagle": _as_draft(_EAGLE),
    "EagleLlamaForCausalLM": _as_draft(_EAGLE),
    "DFlashDraftModel": _as_draft(_dflash, "embedding and head are the target's"),
}
"""By the class alone."""
