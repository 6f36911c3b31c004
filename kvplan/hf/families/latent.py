"""How configs spell latent attention: plain, with an indexer, and the layers around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kvplan.hf.blocks.base import Layer, Model, Reader
from kvplan.hf.blocks.latent import MLA, Indexer
from kvplan.hf.config import Config
from kvplan.hf.families.decoder import Style, stack
from kvplan.hf.families.experts import Mixture, Sparse, dense_first
from kvplan.hf.layers import FULL, MTP, drafts, layer_count, only

LATENT_KEYS = (
    "kv_lora_rank",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
)
"""What a file of the same class without latent attention may have all the same."""
LATENT = Style(uncounted_if=("mlp_bias",))


def mla(config: Config, root: str = "self_attn", *, least_rope: int = 1) -> MLA:
    """The file's MLA; num_key_value_heads and head_dim mean nothing there."""
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim", "q_lora_rank", "mla_use_nope")
    rank = config.count("kv_lora_rank")
    rope = config.count("qk_rope_head_dim", least=least_rope)
    nope = config.count("qk_nope_head_dim")
    if config.has("qk_head_dim") and config.count("qk_head_dim") != rope + nope:
        config.refuse(f"qk_head_dim is not {nope.origin} + {rope.origin}, {nope + rope}")
    return MLA(
        heads=config.count("num_attention_heads"),
        rank=rank,
        rope=rope,
        nope=nope,
        v_width=config.count("v_head_dim"),
        q_rank=partial(_q_rank, config),
        bias=config.flag("attention_bias"),
        root=root,
    )


def _q_rank(config: Config) -> int | None:
    """``q_lora_rank``: null is not a low rank; a file without the key has lost it."""
    if not config.settles("q_lora_rank"):
        config.uncounted("q_lora_rank")
    return config.maybe("q_lora_rank")


def latent_decoder(
    mixture: Mixture | None, style: Style = LATENT, sparse: Sparse = dense_first
) -> Reader:
    """MLA on every layer, the first ones with an MLP, the others with experts."""

    def read(config: Config) -> Model:
        layer, count = (mla(config),), layer_count(config)
        draft = [layer] * drafts(config, MTP)
        return stack(config, style, [layer] * count, mixture, sparse, draft=draft)

    return read


def sparse_decoder(mixture: Mixture) -> Reader:
    """MLA with DeepSeek's indexer: keys of its own on layers whose indexer is not shared."""

    def read(config: Config) -> Model:
        latent, keys = mla(config), indexer(config)
        count = layer_count(config)
        attention = config.per_layer("layer_types", config.words("layer_types"), count)
        known = {"indexed_attention", "deepseek_sparse_attention", FULL}
        if attention is not None and not set(attention) <= known:
            config.refuse("layer_types names other layers than indexed_attention")
        kinds: dict[str, Layer] = {"full": (latent, keys), "shared": (latent,)}
        types = indexer_types(config, count)
        only(config, "indexer_types", types, *kinds)
        # The draft layer brings an indexer of its own (vLLM 0.33.0 models/deepseek_mtp.py).
        draft = [kinds["full"]] * drafts(config, MTP)
        layers = [kinds[kind] for kind in types]
        return stack(config, LATENT, layers, mixture, dense_first, draft=draft)

    return read


def indexer(config: Config) -> Indexer:
    """DeepSeek's indexer with the file's figures."""
    config.ignore("index_n_heads", "index_topk")
    return Indexer(
        width=config.count("index_head_dim"),
        heads=partial(config.size, "index_n_heads"),
        q_rank=partial(config.size, "q_lora_rank"),
    )


def indexer_types(config: Config, layers: int) -> Sequence[str]:
    """``indexer_types``, else a pattern or period (GlmMoeDsaConfig), else every layer its own."""
    config.ignore("index_share_for_mtp_iteration", "indexer_rope_interleave")
    types = config.per_layer("indexer_types", config.words("indexer_types"), layers)
    period = config.maybe("index_topk_freq", least=0)
    offset = config.maybe("index_skip_topk_offset", least=0)
    pattern = config.word("index_topk_pattern")
    if types is not None:
        return types
    if pattern is not None:
        names = {"F": "full", "S": "shared"}
        letters = config.per_layer("index_topk_pattern", pattern, layers) or ""
        return [names.get(letter, letter) for letter in letters]
    by_class = "indexer_types" in config.defaults.values
    if period is not None and period > 1:
        if offset is None and by_class:
            config.take("index_skip_topk_offset", 2)
        start = 2 if offset is None else offset
        return ["full" if max(i - start + 1, 0) % period == 0 else "shared" for i in range(layers)]
    if period is None and by_class:
        config.take("indexer_types", f"{layers} full")
    return ["full"] * layers
