"""Head geometry and state shapes by the dialects in which config.json files spell them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvplan.hf.config import MAX_TOKENS, Config, Figure
from kvplan.hf.layers import Cache, cache, state_dtype

Heads = dict[str, "int | None"]


@dataclass(frozen=True)
class Dialect:
    """Keys of the attention geometry, and what a missing one means in the family's class.

    ``kv_absent``: one KV head for each head, or refused; ``head_dim_absent``: hidden size over
    heads, refused, or the class's constant.
    """

    heads: tuple[str, ...] = ("num_attention_heads",)
    hidden: tuple[str, ...] = ("hidden_size",)
    kv: tuple[str, ...] = ("num_key_value_heads",)
    head_dim: tuple[str, ...] = ("head_dim",)
    kv_absent: Literal["heads", "refuse"] = "refuse"
    head_dim_absent: Literal["divide", "refuse"] = "divide"


DENSE = Dialect()
MULTI_HEAD = Dialect(kv_absent="heads")
OWN_HEAD_DIM = Dialect(head_dim_absent="refuse")

WINDOW_KEYS = ("sliding_window", "sliding_window_size")


def heads(config: Config, dialect: Dialect = DENSE) -> Heads:
    """Attention heads, KV heads and head width. Raises RefusedError where one cannot be known."""
    count = config.count(*dialect.heads)
    return {
        "num_attention_heads": count,
        "num_key_value_heads": kv_heads(config, dialect, count),
        "head_dim": head_dim(config, dialect, count),
    }


def kv_heads(config: Config, dialect: Dialect, count: Figure) -> Figure:
    """KV heads, or as many as heads where the class says so."""
    given = config.maybe(*dialect.kv) if dialect.kv else None
    if given is not None:
        return given
    if dialect.kv_absent == "refuse":
        config.missing(*dialect.kv)
    names = f"no {dialect.kv[0]}: " if dialect.kv else ""
    return Figure(count, f"{names}one for each of {count.origin}")


def head_dim(config: Config, dialect: Dialect, count: Figure) -> Figure:
    """Width of a head, never hidden size over heads where the file says otherwise."""
    given = config.maybe(*dialect.head_dim) if dialect.head_dim else None
    if given is not None:
        return given
    if dialect.head_dim_absent == "refuse":
        config.missing(*dialect.head_dim)
    hidden = config.count(*dialect.hidden)
    return quotient(config, hidden, count)


def quotient(config: Config, total: Figure, parts: Figure) -> Figure:
    """A whole quotient of two figures, or a contradiction."""
    if total % parts:
        config.refuse(f"{total.origin} ({total}) is no multiple of {parts.origin} ({parts})")
    return Figure(total // parts, f"{total.origin} ÷ {parts.origin}")


def full(figures: Heads) -> Cache:
    """Full attention with these heads."""
    return cache("full_attention", **figures)


def window(config: Config, *keys: str) -> Figure | None:
    """The sliding window, or None where the file sets none."""
    return config.maybe(*(keys or WINDOW_KEYS), most=MAX_TOKENS)


def sliding(config: Config, figures: Heads, *keys: str) -> Cache:
    """Sliding-window attention with these heads; the window has to be in the file."""
    size = window(config, *keys)
    if size is None:
        config.missing(*(keys or WINDOW_KEYS[:1]))
    return cache("sliding_window", **figures, sliding_window=size)


def mla(config: Config) -> Cache:
    """Multi-head latent attention; num_key_value_heads and head_dim mean nothing there."""
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim", "q_lora_rank", "mla_use_nope")
    count = config.count("num_attention_heads")
    return cache(
        "mla",
        num_attention_heads=count,
        kv_lora_rank=config.count("kv_lora_rank"),
        qk_rope_head_dim=config.count("qk_rope_head_dim"),
        qk_nope_head_dim=config.count("qk_nope_head_dim"),
        v_head_dim=config.count("v_head_dim"),
    )


def index_keys(config: Config) -> Cache:
    """DeepSeek sparse attention's index key."""
    config.ignore("index_n_heads", "index_topk")
    return cache("index_keys", index_head_dim=config.count("index_head_dim"))


def mamba1(config: Config, state: str, conv: str, expand: str) -> Cache:
    """Mamba-1; ``d_inner`` is expand times hidden size (transformers 5.23.0 MambaConfig, Jamba)."""
    return cache(
        "mamba1",
        d_inner=expanded(config, expand),
        d_state=config.count(state),
        conv_kernel=config.count(conv, least=2, most=64),
        state_dtype=state_dtype(config),
    )


def mamba2(
    config: Config, *, heads: str, width: str | Figure, groups: str, state: str, conv: str
) -> Cache:
    """Mamba-2; the inner width is heads times head width, not expand times hidden size."""
    return cache(
        "mamba2",
        num_heads=config.count(heads),
        head_dim=width if isinstance(width, Figure) else config.count(width),
        n_groups=config.count(groups),
        d_state=config.count(state),
        conv_kernel=config.count(conv, least=2, most=64),
        state_dtype=state_dtype(config),
    )


def mamba2_d(config: Config) -> Cache:
    """Mamba-2 in the dialect of Bamba, Granite-4 and Falcon-H1."""
    return mamba2(
        config,
        heads="mamba_n_heads",
        width=_mamba_head_dim(config),
        groups="mamba_n_groups",
        state="mamba_d_state",
        conv="mamba_d_conv",
    )


def _mamba_head_dim(config: Config) -> Figure:
    """``mamba_d_head``, which may be "auto"; contradicting ``mamba_d_ssm`` is refused.

    Rule: transformers 5.23.0 BambaConfig, GraniteMoeHybridConfig, FalconH1Config.
    """
    count, total = config.count("mamba_n_heads"), config.maybe("mamba_d_ssm")
    if config.raw.get("mamba_d_head") == "auto":
        config.ignore("mamba_d_head")
        return quotient(config, total or expanded(config, "mamba_expand"), count)
    width = config.count("mamba_d_head")
    if total is not None and total != count * width:
        product = f"{count.origin} × {width.origin}"
        config.refuse(f"{total.origin} is {total}, but {product} is {count * width}")
    return width


def expanded(config: Config, factor_key: str) -> Figure:
    """Hidden size times an expansion factor."""
    hidden, factor = config.count("hidden_size"), config.count(factor_key, most=64)
    return Figure(hidden * factor, f"{hidden.origin} × {factor.origin}")


def gated_delta_net(config: Config) -> Cache:
    """Gated DeltaNet in the dialect of Qwen3-Next and Qwen3.5."""
    return cache(
        "gated_delta_net",
        num_key_heads=config.count("linear_num_key_heads"),
        num_value_heads=config.count("linear_num_value_heads"),
        key_head_dim=config.count("linear_key_head_dim"),
        value_head_dim=config.count("linear_value_head_dim"),
        conv_kernel=config.count("linear_conv_kernel_dim", least=2, most=64),
        state_dtype=state_dtype(config),
    )


def kimi_delta(config: Config) -> Cache:
    """Kimi delta attention: ``linear_attn_config``, or the flat keys that transformers saves."""
    section = config.section("linear_attn_config")
    source = section or config
    names = ("num_heads", "head_dim", "short_conv_kernel_size")
    flat = ("linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim")
    count, width, kernel = names if section else flat
    return cache(
        "kimi_delta_attention",
        num_heads=source.count(count),
        head_dim=source.count(width),
        conv_kernel=source.count(kernel, least=2, most=64),
        state_dtype=state_dtype(config),
    )


def lightning(figures: Heads, config: Config) -> Cache:
    """Lightning attention of MiniMax-01: a square state for each attention head."""
    return cache(
        "lightning_attention",
        num_heads=figures["num_attention_heads"],
        head_dim=figures["head_dim"],
        state_dtype=state_dtype(config),
    )
