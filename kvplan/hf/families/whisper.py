"""OpenAI's Whisper: an encoder of sound, and a decoder that attends to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Stack, norm, vector
from kvplan.hf.blocks.ends import Embedding
from kvplan.hf.config import MAX_TOKENS, Config
from kvplan.hf.families.bart import DECODER, ENCODER
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, ends, mlp, model, norms
from kvplan.hf.layers import layer_count

_DECODER = replace(
    DECODER,
    final="model.decoder.layer_norm",
    ends=("model.decoder.embed_tokens", "proj_out"),
    tie=True,
)


def _whisper(config: Config) -> Model:
    """Decoder layers keep their own text and, once, the encoder's ``max_source_positions``."""
    heads = _heads(config, _DECODER)
    frames = config.count("max_source_positions", most=MAX_TOKENS)
    crossed = replace(heads, kind="cross_attention", span=frames, root="encoder_attn")
    config.ignore("num_hidden_layers", "encoder_layers", "is_encoder_decoder")
    count = layer_count(config, *_DECODER.layers)

    def others() -> Sequence[Layer]:
        return [(mlp(config, _DECODER), norms(_DECODER))] * count

    return replace(
        model(config, _DECODER, [(heads, crossed)] * count, others),
        stacks=lambda: (_encoder(config),),
        ends=lambda: (_front(config), _positions(config), *ends(config, _DECODER)),
    )


def _heads(config: Config, style: Style) -> Attention:
    """Keys have no bias."""
    return replace(attention(config, style), unbiased="k_proj")


def _encoder(config: Config) -> Stack:
    config.size(*ENCODER.dialect.heads)
    layer = (
        _heads(config, ENCODER),
        mlp(config, ENCODER),
        norms(ENCODER),
    )
    count = layer_count(config, *ENCODER.layers)
    return Stack(root="model.encoder.layers", layers=(layer,) * count, part="audio")


def _front(config: Config) -> Extra:
    """Two convolutions over the spectrum; the encoder's positions are stored too."""
    hidden, bins = config.size("d_model"), config.size("num_mel_bins")
    part, root, width = "audio", "model.encoder", 3
    return Extra(
        tensors=(
            *vector(part, f"{root}.conv1", hidden, bins, width),
            *vector(part, f"{root}.conv1.bias", hidden),
            *vector(part, f"{root}.conv2", hidden, hidden, width),
            *vector(part, f"{root}.conv2.bias", hidden),
            *vector(part, f"{root}.embed_positions", config.size("max_source_positions"), hidden),
            *norm(f"{root}.layer_norm", hidden, bias=True, part=part),
        )
    )


def _positions(config: Config) -> Embedding:
    rows = config.size("max_target_positions")
    return Embedding(rows=rows, name="model.decoder.embed_positions")


FAMILIES: dict[str, Family] = {"whisper": Family(read=_whisper)}
