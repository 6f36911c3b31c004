"""DeepSeek-V4.1: a few layers compress keys and values, and the layers after them read those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model, uncounted_layers
from kvplan.hf.blocks.compressed import SharedCompressedAttention
from kvplan.hf.config import MAX_TOKENS, Config, Figure
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, model
from kvplan.hf.layers import MTP, drafts, layer_count

_ENGRAM = ("engram_head_dim", "engram_layer_ids", "engram_n_heads")
_RECORD = (
    "fp8_ds_mla is counted at 584 B a vector, as on Hopper; vLLM 0.33.0 keeps 528 B (mxfp8) "
    "on Blackwell"
)


def _deepseek_v41(config: Config) -> Model:
    """``compress_ratios`` by layer, draft layers last: 0 a window only, 1 and 2 compressed.

    Caches of ``kv_source_layer_ids`` alone (vLLM 0.33.0 models/deepseek_v41/attention.py:313).
    """
    count, draft = layer_count(config), drafts(config, MTP)
    config.require("num_key_value_heads", 1)
    config.ignore("index_n_heads", "index_topk", "index_source_layer_ids", "compress_rope_theta")
    config.ignore(*_ENGRAM)  # embeddings of n-grams: looked up, nothing is kept
    ratios = _ratios(config, count, draft)
    sources = _sources(config, ratios[:count])
    window = SharedCompressedAttention(
        heads=config.count("num_attention_heads"),
        width=config.count("head_dim"),
        rope=config.count("qk_rope_head_dim"),
        window=config.count("sliding_window", most=MAX_TOKENS),
    )
    layers: list[Layer] = [(window,)] * (count + draft)
    for index in sources:
        ratio = Figure(ratios[index], config.name("compress_ratios"))
        source = replace(window, ratio=ratio, index_width=config.count("index_head_dim"))
        layers[index] = (source,)
    rest = uncounted_layers("no count of DeepSeek-V4.1 yet")
    plain = model(config, PLAIN, layers[:count], rest, draft=layers[count:])
    return replace(plain, kv_cache_dtype="fp8_ds_mla", assumptions=(_RECORD,))


def _ratios(config: Config, layers: int, draft: int) -> list[int]:
    ratios = config.numbers("compress_ratios")
    if ratios is None:
        config.missing("compress_ratios")
    spare = ratios[layers:]
    if len(ratios) < layers or len(spare) not in (0, draft) or any(spare):
        config.refuse(
            f"compress_ratios has {len(ratios)} entries for {layers} layers and {draft} draft "
            "layers, which keep a window alone"
        )
    unknown = sorted(set(ratios) - {0, 1, 2})
    if unknown:
        config.refuse(f"a layer compresses by {unknown[0]}; known are 0, 1 and 2")
    return ratios


def _sources(config: Config, ratios: Sequence[int]) -> list[int]:
    """Layers whose cache those after them read: each of these needs one of its own ratio."""
    sources = sorted(set(config.numbers("kv_source_layer_ids") or ()))
    if any(ratios) and not sources:
        config.missing("kv_source_layer_ids")
    if sources and not 0 <= sources[0] <= sources[-1] < len(ratios):
        config.refuse("kv_source_layer_ids names a layer that does not exist")
    for index, ratio in enumerate(ratios):
        source = max((s for s in sources if s <= index), default=None)
        if ratio and (source is None or ratios[source] != ratio):
            config.refuse(f"layer {index} compresses by {ratio}, and no source before it does")
    if any(not ratios[source] for source in sources):
        config.refuse("kv_source_layer_ids names a layer that keeps a window alone")
    return sources


FAMILIES: dict[str, Family] = {
    "deepseek_v41_text": Family(read=_deepseek_v41, classes=("deepseekv41",)),
}

WRAPPERS: dict[str, Wrapper] = {
    "deepseek_v41": Wrapper(
        text="deepseek_v41_text",
        beside=(Beside("vision_config", "vision tower", optional=True),),
    ),
}
