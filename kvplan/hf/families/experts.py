"""Keys of the experts of a family, and which layers have them. All of it only weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from kvplan.hf.blocks.base import Kind
from kvplan.hf.blocks.mlp import GATED, MLP, Experts
from kvplan.hf.class_defaults import NO_CLASS
from kvplan.hf.config import Config, Flag, UncountedError, shown

USED = ("num_experts_per_tok", "num_experts_per_token")

Sparse = Callable[[Config, int], Iterable[int]]
"""The layers that have experts, of so many. Raises UncountedError."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Keys of one family's experts, and what no key changes.

    ``shared`` counts shared experts, ``shared_width`` is a width that is not the routed ones'.
    ``no_shared`` is how a file says that it has none: 0, null there, or no key either.
    """

    count: tuple[str, ...]
    used: tuple[str, ...] = USED
    width: tuple[str, ...] = ("moe_intermediate_size",)
    shared: tuple[str, ...] = ()
    shared_width: tuple[str, ...] = ()
    no_shared: Literal["null", "missing", "zero"] = "null"
    shared_root: str = "mlp.shared_experts"
    shared_gate: bool = False
    correction: Kind | Callable[[Config], Kind | None] | None = None
    """As in ``Experts``, or the file's word on it."""
    root: str = "mlp"
    experts: str = "experts"
    router: str = "gate"
    router_bias: bool = False
    router_dtype: str | None = None
    bias: Flag = False
    gated: bool = True
    names: tuple[str, ...] = GATED
    norm: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of it: without a layer that has experts, none of them changes anything."""
        return (*self.count, *self.used, *self.width, *self.shared, *self.shared_width)


def experts(config: Config, mixture: Mixture, layers: int) -> Experts:
    """The experts of one layer with the file's figures."""
    correction, bias = mixture.correction, config.on(mixture.bias)
    width = config.same_size(layers, *mixture.width)
    count, used = (config.same_size(layers, *keys) for keys in (mixture.count, mixture.used))
    beside = _shared_width(config, mixture, width, layers)
    shared = MLP(width=beside, gated=mixture.gated, root=mixture.shared_root)
    return Experts(
        expert=MLP(width=width, gated=mixture.gated, bias=bias, names=mixture.names),
        count=count,
        used=used,
        shared=shared if beside or mixture.shared_gate else None,
        shared_gate=mixture.shared_gate,
        router=mixture.router,
        router_bias=mixture.router_bias,
        router_dtype=mixture.router_dtype,
        correction=correction(config) if callable(correction) else correction,
        root=mixture.root,
        experts=mixture.experts,
        norm=mixture.norm,
    )


def _shared_width(config: Config, mixture: Mixture, width: int, layers: int) -> int:
    """Of all shared experts together."""
    number = _shared(config, mixture, mixture.shared, layers)
    own = _shared(config, mixture, mixture.shared_width, layers)
    if number is None:
        return own or 0
    return number * (width if own is None else own)


def _shared(config: Config, mixture: Mixture, keys: tuple[str, ...], layers: int) -> int | None:
    """The figure of these keys, 0 where the file has no shared experts."""
    if not keys:
        return None
    key, _ = config.value(*keys)
    null = mixture.no_shared == "null" and not config.raw.keys().isdisjoint(keys)
    if not key and (null or mixture.no_shared == "missing"):
        return 0
    return config.same_size(layers, *keys, least=0)


def by_topk_method(config: Config) -> Kind | None:
    """DeepSeek-V3's balancing bias, a buffer: there with ``topk_method`` noaux_tc."""
    return "buffer" if config.word("topk_method") in (None, "noaux_tc") else None


def by_routing_bias(config: Config) -> Kind | None:
    """MiniMax's balancing bias, a buffer that ``use_routing_bias`` takes away."""
    return "buffer" if config.flag("use_routing_bias", default=True) else None


def every_layer(_: Config, layers: int) -> Iterable[int]:
    """Experts throughout."""
    return range(layers)


def dense_first(config: Config, layers: int) -> Iterable[int]:
    """Experts from ``first_k_dense_replace`` on, in every ``moe_layer_freq``-th layer."""
    named = _by_name(config, layers)
    if named is not None:
        return named
    if isinstance(config.raw.get("moe_layer_freq"), list):
        flags = config.per_layer("moe_layer_freq", config.numbers("moe_layer_freq"), layers) or ()
        return [index for index, flag in enumerate(flags) if flag]
    if config.defaults == NO_CLASS:
        config.take("moe_layer_freq", 1)
    first = config.size("first_k_dense_replace", least=0)
    step = config.maybe("moe_layer_freq") or 1
    classes = config.defaults
    if step != 1 and classes != NO_CLASS and "moe_layer_freq" not in classes.values:
        raise UncountedError(f"moe_layer_freq is {step}, which {classes.source} does not look at")
    config.take("moe_layer_freq", int(step))
    return [index for index in range(layers) if index >= first and index % step == 0]


def but_the_first(config: Config, layers: int) -> Iterable[int]:
    """Experts from the second layer on, unless ``mlp_layer_types`` names them.

    Classes without a key for it (LagunaConfig, HYV3Config, Glm4MoeLiteConfig); a file of an older
    spelling that says something else is not counted.
    """
    named = _by_name(config, layers)
    if named is not None:
        return named
    first, only = config.maybe("first_k_dense_replace", least=0), config.numbers("mlp_only_layers")
    step = config.maybe("decoder_sparse_step", "moe_layer_freq", least=0)
    if first not in (None, 1) or only not in (None, [0]) or step not in (None, 1):
        raise UncountedError(
            f"{config.defaults.source} does not read first_k_dense_replace, mlp_only_layers and "
            "decoder_sparse_step, which say that more than the first layer is dense"
        )
    return range(1, layers)


def every_step(config: Config, layers: int) -> Iterable[int]:
    """Every ``decoder_sparse_step``-th layer but ``mlp_only_layers`` (Qwen2MoeConfig)."""
    named = _by_name(config, layers)
    if named is not None:
        return named
    only = set(config.numbers("mlp_only_layers") or ())
    step = config.maybe("decoder_sparse_step", least=0) or 1
    return [i for i in range(layers) if i not in only and (i + 1) % step == 0]


def _by_name(config: Config, layers: int) -> list[int] | None:
    types = config.per_layer("mlp_layer_types", config.words("mlp_layer_types"), layers)
    if types is None:
        return None
    unknown = sorted(set(types) - {"dense", "sparse"})
    if unknown:
        config.refuse(f"mlp_layer_types names {shown(unknown[0])}; known: dense, sparse")
    return [index for index, kind in enumerate(types) if kind == "sparse"]


def after_dense(config: Config, layers: int) -> Iterable[int]:
    """Experts from ``num_dense_layers`` on."""
    return range(min(config.size("num_dense_layers", least=0), layers), layers)


DEEPSEEK = Mixture(count=("n_routed_experts",), shared=("n_shared_experts",))
BALANCED = replace(DEEPSEEK, correction="buffer")
"""DeepSeek-V3's, with a bias that balances the load."""
QWEN = Mixture(count=("num_experts",))
NUM_SHARED = replace(
    QWEN,
    count=("num_experts", "num_local_experts"),
    shared=("num_shared_experts",),
    correction="buffer",
)
"""Qwen's keys, with DeepSeek-V3's shared experts and bias."""
QWEN_SHARED = replace(
    QWEN,
    shared_width=("shared_expert_intermediate_size",),
    shared_root="mlp.shared_expert",
    shared_gate=True,
)
MIXTRAL = Mixture(
    count=("num_local_experts",),
    width=("intermediate_size",),
    root="block_sparse_moe",
    names=("w1", "w3", "w2"),
)
