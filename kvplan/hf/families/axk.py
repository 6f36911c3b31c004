"""SK Telecom's A.X-K2: sparse latent attention with an output gate and norms that are gated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf.blocks.base import Extra, Layer, Model, Tensors, extra, linear, norm
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.latent import sparse_decoder


@dataclass(frozen=True, kw_only=True)
class GatedMLA(MLA):
    """One matrix makes queries and gate from the query's latent, normed and as it is."""

    def _queries(self, hidden: int) -> Tensors:
        rank, root = self.q_rank() or 0, self.root
        rows = self.heads * (self.nope + self.rope + self.v_width)
        yield from linear("attention_down", f"{root}.q_a_proj", rank, hidden, bias=self.bias)
        yield from norm(f"{root}.q_a_layernorm", rank)
        yield from linear("attention", f"{root}.q_gate_proj", rows, 2 * rank)


def _axk2(config: Config) -> Model:
    """Norms are gated over ``gated_norm_rank`` (AXK2Config); dense layers gate one norm only."""
    plain = sparse_decoder(BALANCED)(config)
    layers = tuple(
        tuple(GatedMLA(**vars(b)) if isinstance(b, MLA) else b for b in layer)
        for layer in plain.layers
    )

    def others() -> Sequence[Layer]:
        rank = config.size("gated_norm_rank")
        hidden, rest = config.size("hidden_size"), plain.others()
        sparse = set(dense_first(config, len(layers)))
        return [
            (*layer, *(_gate(name, hidden, rank) for name in _names(index in sparse)))
            for index, layer in enumerate(rest)
        ]

    return replace(plain, layers=layers, others=others)


def _names(sparse: bool) -> Sequence[str]:
    return ("input_layernorm", "post_attention_layernorm")[: 2 if sparse else 1]


def _gate(name: str, hidden: int, rank: int) -> Extra:
    return extra(
        linear("norm", f"{name}.mlp.fc1", rank, hidden),
        linear("norm", f"{name}.mlp.fc2", hidden, rank),
    )


FAMILIES: dict[str, Family] = {"axk2": Family(read=_axk2)}
