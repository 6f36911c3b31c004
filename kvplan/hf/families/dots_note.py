"""dots3-note: sparse latent attention, and latents of another rank in a sliding window.

Source: transformers 5.24.0 modeling_dots3_note.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import UNSURE, Block, Layer, Model, extra, norm
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.config import MAX_TOKENS, Config, Figure
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, stack
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.latent import indexer, mla
from kvplan.hf.families.per_layer import layer_sections
from kvplan.hf.layers import FULL, MTP, SLIDING, by_type, drafts, layer_count, layer_types

_INDEXED = "indexed_attention"
_EXPERTS = replace(
    BALANCED,
    shared_width=("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"),
    router_dtype=UNSURE,
)
_KEYS = (
    "num_attention_heads",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
)
_PADDED = "vLLM 0.33.0 pads the latents of full layers to the rows of the sliding ones"


def _dots3_note(config: Config) -> Model:
    """``layer_types``; full attention is sparse unless ``use_dsa`` is off (Dots3NoteTextConfig)."""
    count, latent = layer_count(config), mla(config)
    section = config.section("per_layer_config")
    types = list(layer_types(config, count, None))
    sparse = config.flag("use_dsa", default=section is None)
    full: Layer = (latent, indexer(config)) if sparse or _INDEXED in types else (latent,)
    windowed = partial(_windowed, config, section, latent, types)
    kinds: dict[str, Callable[[], Layer]] = {
        FULL: lambda: full,
        _INDEXED: lambda: full,
        SLIDING: windowed,
    }
    if not sparse and FULL in types and _INDEXED in types:
        config.refuse("layer_types names full_attention and indexed_attention")
    config.ignore("use_sliding_window", "sliding_window", "sliding_window_size")
    config.ignore("index_head_dim", "index_n_heads", "index_topk")
    config.ignore(*(key for key in config.raw if key.startswith("swa_")))
    draft = [full] * drafts(config, MTP)
    layers = by_type(config, types, kinds)
    plain = stack(config, PLAIN, layers, _EXPERTS, dense_first, beside=_beside, draft=draft)
    return replace(plain, assumptions=(_PADDED,) if SLIDING in types else ())


def _windowed(config: Config, section: Config | None, full: MLA, types: Sequence[str]) -> Layer:
    """``swa_`` keys, or what transformers saves of each layer."""
    window = config.count("sliding_window", "sliding_window_size", most=MAX_TOKENS)
    if section is not None:
        return (_as_saved(_same(config, section, types), full, window),)
    heads, rank, rope, nope, values = (f"swa_{key}" for key in _KEYS)
    windowed = replace(
        full,
        heads=config.count(heads),
        rank=config.count(rank),
        rope=config.maybe(rope) or _rest(config, nope),
        nope=config.count(nope),
        v_width=config.count(values),
        span=window,
        q_rank=partial(config.size, "swa_q_lora_rank"),
    )
    return (windowed,)


def _as_saved(entry: Config, full: MLA, window: Figure) -> MLA:
    """The full layers' figures with those that the entry changes."""
    heads, rank, rope, nope, values = (entry.maybe(key) for key in _KEYS)
    return replace(
        full,
        heads=heads or full.heads,
        rank=rank or full.rank,
        rope=rope or full.rope,
        nope=nope or full.nope,
        v_width=values or full.v_width,
        span=window,
        q_rank=partial(entry.size, "q_lora_rank") if entry.has("q_lora_rank") else full.q_rank,
    )


def _rest(config: Config, nope: str) -> int:
    """A head's width that is not rotated is given, and all of it."""
    width = config.count("swa_head_dim") - config.count(nope)
    if width < 1:
        config.refuse("swa_qk_nope_head_dim is not smaller than swa_head_dim")
    return width


def _same(config: Config, section: Config, types: Sequence[str]) -> Config:
    """The one section that all sliding layers have."""
    sections = layer_sections(section, len(types))
    given = [sections.get(i) for i, kind in enumerate(types) if kind == SLIDING]
    first = next(iter(given), None)
    if first is None or any(one is None or one.raw != first.raw for one in given):
        config.refuse("per_layer_config is not the same for every sliding layer")
    return first


def _beside(config: Config, block: Block) -> Layer:
    """A gate of one row a head, and a norm of the rotary key."""
    del config
    if not isinstance(block, MLA):
        return ()
    gate = Gate(rows=block.heads, name="self_attn.g_proj")
    return (gate, extra(norm("self_attn.k_rope_only_layernorm", block.rope)))


_TEXT = Family(read=_dots3_note, classes=("dots3note",))

FAMILIES: dict[str, Family] = {"dots3_note_text": _TEXT, "dots3_note": _TEXT}

WRAPPERS: dict[str, Wrapper] = {
    "dots3_note": Wrapper(
        optional=True,
        text="dots3_note_text",
        beside=(
            Beside("vision_config", "vision tower", optional=True),
            Beside("audio_config", "audio tower", optional=True),
        ),
    ),
}
