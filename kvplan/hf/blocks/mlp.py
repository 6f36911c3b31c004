"""What stands after attention: an MLP, or routed experts in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvplan.hf.blocks.base import Block, Kind, Tensor, Tensors, linear, norm, vector
from kvplan.hf.config import ContradictionError, origin

GATED = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class MLP(Block):
    """Gate, up and down, or up and down alone; two names of a gated one: gate and up are one."""

    width: int
    gated: bool = True
    bias: bool = False
    names: tuple[str, ...] = GATED
    part: str = "dense_mlp"
    root: str = "mlp"

    def weights(self, hidden: int) -> Tensors:
        *ups, down = self.names if self.gated else self.names[-2:]
        rows = 2 * self.width if self.gated and len(ups) == 1 else self.width
        root = f"{self.root}." if self.root else ""
        for name in ups:
            yield from linear(self.part, f"{root}{name}", rows, hidden, bias=self.bias)
        yield from linear(self.part, f"{root}{down}", hidden, self.width, bias=self.bias)


@dataclass(frozen=True, kw_only=True)
class Experts(Block):
    """Routed experts, their router, and shared experts that every token goes through.

    No quantiser touches the router. ``correction`` is the bias that balances the load: a buffer
    of fp32 (DeepSeek), a parameter ("other"), or none.
    """

    expert: MLP
    count: int
    used: int
    shared: MLP | None = None
    shared_gate: bool = False
    router: str = "gate"
    router_bias: bool = False
    router_dtype: str | None = None
    correction: Kind | None = None
    narrow: int | None = None
    """Width of what the routed experts see, where it is not the hidden size."""
    root: str = "mlp"
    experts: str = "experts"
    norm: str = ""
    """Name of a norm after them (A.X-K1)."""

    def __post_init__(self) -> None:
        if self.used > self.choices:
            raise ContradictionError(
                f"{origin(self.used)} is {self.used}, of {self.choices} experts"
            )

    @property
    def choices(self) -> int:
        """Experts that the router of a token chooses among."""
        return self.count

    def weights(self, hidden: int) -> Tensors:
        yield from self._router(hidden)
        yield from self.routed(self.narrow or hidden)
        if self.shared is not None:
            if self.shared.width:
                yield from replace(self.shared, part="shared_experts").weights(hidden)
            if self.shared_gate:
                yield from vector("shared_experts", f"{self.root}.shared_expert_gate", 1, hidden)
        if self.norm:
            yield from norm(self.norm, hidden)

    def routed(self, hidden: int) -> Tensors:
        """The routed experts alone, on vectors of this width."""
        root = f"{self.root}.{self.experts}.*"
        for tensor in replace(self.expert, part="routed_experts", root=root).weights(hidden):
            yield replace(tensor, copies=self.count, used=self.used)

    def _router(self, hidden: int) -> Tensors:
        root = f"{self.root}.{self.router}"
        yield from vector("router", root, self.count, hidden, dtype=self.router_dtype)
        if self.router_bias:
            yield from vector("router", f"{root}.bias", self.count)
        if self.correction is not None:
            name = f"{root}.e_score_correction_bias"
            dtype = "fp32" if self.correction == "buffer" else None
            yield Tensor("router", name, (self.count,), self.correction, dtype=dtype)
