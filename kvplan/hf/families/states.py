"""Keys of recurrent states, in the dialects that several families share."""

from __future__ import annotations

from functools import partial

from kvplan.hf.blocks.recurrent import GatedDeltaNet, KimiDelta, Mamba1, Mamba2
from kvplan.hf.config import Config, Figure, Word, shown
from kvplan.hf.geometry import quotient

_UNSAID = "kvplan, which counts recurrent states in fp32 where no file says otherwise"
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def state_dtype(config: Config, *keys: str) -> str | None:
    """Dtype of the recurrent state where the config names one; fp32 is kvplan's default.

    ``keys`` say it in the place of Mamba's, which may also say "auto".
    """
    names = keys or ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
    word = config.word(*names)
    if word is None and not config.mentions(*names):
        config.take(names[-1], "float32", _UNSAID)
    if word is None or (word == "auto" and not keys):
        return None
    if word not in _DTYPES:
        config.refuse(f"{word.origin} is {shown(str(word))}, a dtype that is not known here")
    return Word(_DTYPES[word], word.origin)


def kernel(config: Config, key: str) -> Figure:
    """Width of a causal convolution."""
    return config.count(key, least=2, most=64)


def expanded(config: Config, factor_key: str) -> Figure:
    """Hidden size times an expansion factor."""
    hidden, factor = config.count("hidden_size"), config.count(factor_key, most=64)
    return Figure(hidden * factor, f"{hidden.origin} × {factor.origin}")


def mamba1(
    config: Config, inner: Figure, *, state: str, conv: str, rank: str, biases: tuple[str, str]
) -> Mamba1:
    """Mamba-1 of this inner width; ``biases`` are the keys of matrices and convolution."""
    return Mamba1(
        inner=inner,
        state=config.count(state),
        kernel=kernel(config, conv),
        rank=partial(_dt_rank, config, rank),
        state_dtype=state_dtype(config),
        bias=config.flag(biases[0]),
        conv_bias=config.flag(biases[1], default=True),
    )


def _dt_rank(config: Config, key: str) -> int:
    """``auto`` and no key at all mean hidden size over 16, rounded up."""
    given = None if config.raw.get(key) == "auto" else config.maybe(key)
    config.ignore(key)
    return int(given) if given is not None else -(-config.size("hidden_size") // 16)


def mamba2(
    config: Config,
    *,
    heads: str,
    width: str | Figure,
    groups: str,
    state: str,
    conv: str,
    biases: tuple[str, str],
) -> Mamba2:
    """Mamba-2; the inner width is heads times head width, not expand times hidden size."""
    return Mamba2(
        heads=config.count(heads),
        width=width if isinstance(width, Figure) else config.count(width),
        groups=config.count(groups),
        state=config.count(state),
        kernel=kernel(config, conv),
        state_dtype=state_dtype(config),
        bias=config.flag(biases[0]),
        conv_bias=config.flag(biases[1], default=True),
    )


def mamba2_d(config: Config) -> Mamba2:
    """Mamba-2 in the dialect of Bamba, Granite-4 and Falcon-H1."""
    return mamba2(
        config,
        heads="mamba_n_heads",
        width=_mamba_head_dim(config),
        groups="mamba_n_groups",
        state="mamba_d_state",
        conv="mamba_d_conv",
        biases=("mamba_proj_bias", "mamba_conv_bias"),
    )


def _mamba_head_dim(config: Config) -> Figure:
    """``mamba_d_head``, which may be "auto"; contradicting ``mamba_d_ssm`` is refused.

    Rule: transformers 5.24.0 BambaConfig, GraniteMoeHybridConfig, FalconH1Config.
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


def gated_delta_net(config: Config) -> GatedDeltaNet:
    """Gated DeltaNet in the dialect of Qwen3-Next and Qwen3.5."""
    return GatedDeltaNet(
        key_heads=config.count("linear_num_key_heads"),
        value_heads=config.count("linear_num_value_heads"),
        key_width=config.count("linear_key_head_dim"),
        value_width=config.count("linear_value_head_dim"),
        kernel=kernel(config, "linear_conv_kernel_dim"),
        state_dtype=state_dtype(config),
    )


def kimi_delta(config: Config) -> KimiDelta:
    """Kimi delta attention: ``linear_attn_config``, or the flat keys that transformers saves."""
    section = config.section("linear_attn_config")
    source = section or config
    names = ("num_heads", "head_dim", "short_conv_kernel_size")
    flat = ("linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim")
    count, width, conv = names if section else flat
    return KimiDelta(
        heads=source.count(count),
        width=source.count(width),
        kernel=kernel(source, conv),
        state_dtype=state_dtype(config),
        full_rank_gate=section is not None and section.flag("use_full_rank_gate"),
    )
