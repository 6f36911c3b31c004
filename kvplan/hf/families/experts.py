"""Keys of the experts of a family, and which layers have them. All of it only weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kvplan.hf.blocks.base import Kind
from kvplan.hf.blocks.mlp import GATED, MLP, Experts
from kvplan.hf.config import Config, shown

USED = ("num_experts_per_tok", "num_experts_per_token")

Sparse = Callable[[Config, int], Iterable[int]]
"""The layers that have experts, of so many. Raises UncountedError."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Keys of one family's experts, and what no key changes.

    ``shared`` counts experts of the routed ones' width, ``shared_width`` is a width of its own;
    a file without either key has none, unless the class says otherwise (``needs_shared``).
    """

    count: tuple[str, ...]
    used: tuple[str, ...] = USED
    width: tuple[str, ...] = ("moe_intermediate_size",)
    shared: str = ""
    shared_width: str = ""
    needs_shared: bool = True
    shared_root: str = "mlp.shared_experts"
    shared_gate: bool = False
    correction: Kind | Callable[[Config], Kind | None] | None = None
    """As in ``Experts``, or the file's word on it."""
    root: str = "mlp"
    router: str = "gate"
    router_bias: bool = False
    router_dtype: str | None = None
    bias: bool = False
    gated: bool = True
    names: tuple[str, ...] = GATED

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of it: without a layer that has experts, none of them changes anything."""
        return (*self.count, *self.used, *self.width, self.shared, self.shared_width)


def experts(config: Config, mixture: Mixture, layers: int) -> Experts:
    """The experts of one layer with the file's figures."""
    correction = mixture.correction
    width = config.same_size(layers, *mixture.width)
    count, used = config.size(*mixture.count), config.same_size(layers, *mixture.used)
    beside = _shared_width(config, mixture, width, layers)
    shared = MLP(width=beside, gated=mixture.gated, root=mixture.shared_root)
    return Experts(
        expert=MLP(width=width, gated=mixture.gated, bias=mixture.bias, names=mixture.names),
        count=count,
        used=some_of(config, count, used, mixture.used[0]),
        shared=shared if beside else None,
        shared_gate=mixture.shared_gate,
        router=mixture.router,
        router_bias=mixture.router_bias,
        router_dtype=mixture.router_dtype,
        correction=correction(config) if callable(correction) else correction,
        root=mixture.root,
    )


def some_of(config: Config, count: int, used: int, key: str) -> int:
    """``used`` experts of ``count``. Raises RefusedError where there are not so many."""
    if used > count:
        config.refuse(f"{config.name(key)} is {used}, of {count} experts")
    return used


def _shared_width(config: Config, mixture: Mixture, width: int, layers: int) -> int:
    key = mixture.shared_width or mixture.shared
    if key and key not in config.raw and mixture.needs_shared:
        config.uncounted(key)
    if not key or not config.has(key):
        config.ignore(key)
        return 0
    if mixture.shared_width:
        return config.size(key, least=0)
    return config.same_size(layers, key, least=0) * width


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
    named = config.per_layer("mlp_layer_types", config.words("mlp_layer_types"), layers)
    if named is not None:
        return _by_name(config, named)
    if isinstance(config.raw.get("moe_layer_freq"), list):
        flags = config.per_layer("moe_layer_freq", config.numbers("moe_layer_freq"), layers) or ()
        return [index for index, flag in enumerate(flags) if flag]
    first = config.size("first_k_dense_replace", least=0)
    step = config.maybe("moe_layer_freq") or 1
    return [index for index in range(layers) if index >= first and index % step == 0]


def every_step(config: Config, layers: int) -> Iterable[int]:
    """Every ``decoder_sparse_step``-th layer but ``mlp_only_layers`` (Qwen2MoeConfig)."""
    named = config.per_layer("mlp_layer_types", config.words("mlp_layer_types"), layers)
    if named is not None:
        return _by_name(config, named)
    only = set(config.numbers("mlp_only_layers") or ())
    step = config.maybe("decoder_sparse_step", least=0) or 1
    return [i for i in range(layers) if i not in only and (i + 1) % step == 0]


def _by_name(config: Config, types: Sequence[str]) -> list[int]:
    unknown = sorted(set(types) - {"dense", "sparse"})
    if unknown:
        config.refuse(f"mlp_layer_types names {shown(unknown[0])}; known: dense, sparse")
    return [index for index, kind in enumerate(types) if kind == "sparse"]


DEEPSEEK = Mixture(count=("n_routed_experts",), shared="n_shared_experts")
BALANCED = Mixture(count=("n_routed_experts",), shared="n_shared_experts", correction="buffer")
"""DeepSeek-V3's, with a bias that balances the load."""
QWEN = Mixture(count=("num_experts",))
QWEN_SHARED = Mixture(
    count=("num_experts",),
    shared_width="shared_expert_intermediate_size",
    shared_root="mlp.shared_expert",
    shared_gate=True,
)
MIXTRAL = Mixture(
    count=("num_local_experts",),
    width=("intermediate_size",),
    root="block_sparse_moe",
    names=("w1", "w3", "w2"),
)
