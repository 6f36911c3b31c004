"""Llama-3.2 Vision: some layers attend to the image in the place of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, vector
from kvplan.hf.blocks.ends import Embedding, Head
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, attention, mlp, model, norms
from kvplan.hf.families.mllama_vision import mllama
from kvplan.hf.layers import layer_count


def _mllama_text(config: Config) -> Model:
    """``cross_attention_layers`` keep the image's keys and values and none of the text's."""
    text, count = attention(config, PLAIN), layer_count(config)
    crossed = config.numbers("cross_attention_layers")
    if crossed is None:
        config.missing("cross_attention_layers")
    if len(set(crossed)) != len(crossed) or not all(0 <= index < count for index in crossed):
        config.refuse("cross_attention_layers names a layer twice, or one that does not exist")
    tokens = _image_tokens(config)
    seen = replace(text, kind="cross_attention", span=tokens, root="cross_attn", qk_norm="head")
    layers = [(seen,) if index in set(crossed) else (text,) for index in range(count)]

    def others() -> Sequence[Layer]:
        every: Layer = (mlp(config, PLAIN), norms(PLAIN))
        return [(*every, _gates()) if index in set(crossed) else every for index in range(count)]

    return replace(model(config, PLAIN, layers, others), ends=lambda: _ends(config))


def _image_tokens(config: Config) -> Figure:
    """Tiles times patches and one class token: 4 x 1601 (modeling_mllama.py MllamaVisionModel)."""
    vision = config.outer.section("vision_config") if config.outer else None
    if vision is None:
        config.refuse("vision_config is missing, which says how long an image is")
    size, patch = vision.count("image_size"), vision.count("patch_size")
    tiles = vision.count("max_num_tiles", most=1_000)
    side = geo.quotient(config, size, patch)
    working = f"{tiles.origin} × (({side.origin})² + 1)"
    return Figure(tiles * (side**2 + 1), working)


def _gates() -> Extra:
    return Extra(
        tensors=(
            *vector("attention", "cross_attn_attn_gate", 1),
            *vector("dense_mlp", "cross_attn_mlp_gate", 1),
        )
    )


def _ends(config: Config) -> Layer:
    """Eight rows of the embedding are extra."""
    rows = config.size("vocab_size")
    if config.flag("tie_word_embeddings"):
        raise UncountedError("tie_word_embeddings is on, but the embedding has eight rows more")
    return (Embedding(rows=rows + 8), Norms(names=(PLAIN.final,)), Head(rows=rows))


FAMILIES: dict[str, Family] = {
    "mllama_text_model": Family(read=_mllama_text, classes=("mllamatext", "mllama"))
}

WRAPPERS: dict[str, Wrapper] = {"mllama": Wrapper(tower=mllama)}
