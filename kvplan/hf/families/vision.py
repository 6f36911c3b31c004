"""A vision tower as a model that keeps nothing: its layers, and what stands once beside them."""

from __future__ import annotations

from collections.abc import Sequence

from kvplan.hf.blocks.base import Layer, Model, Stack


def vision_model(
    hidden: int, root: str, layers: Sequence[Layer], ends: Layer, *stacks: Stack
) -> Model:
    """Layers of this width under ``root``, and the patch embedding, norms and projector."""
    return Model(
        layers=((),) * len(layers),
        layers_key="",
        hidden=lambda: hidden,
        others=lambda: layers,
        ends=lambda: ends,
        root=root,
        stacks=lambda: stacks,
    )
