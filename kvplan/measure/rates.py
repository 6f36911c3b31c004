"""How fast caches are read: a device's ceilings, and what one step of attention takes."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.measure.question import CacheQuestion, Kernel
from kvplan.measure.shapes import AttentionShape


@dataclass(frozen=True)
class Ceilings:
    """Rates that were measured: a pure read, and matrix products kept up for a second.

    The products are of bf16 on a GPU; on a CPU of fp32, and not kept up.
    """

    read_bytes_per_second: float
    matmul_flops_per_second: float

    def roof_seconds(self, size_bytes: int, flops: int) -> float:
        """The least time for so many bytes and operations: the larger of the two."""
        return max(size_bytes / self.read_bytes_per_second, flops / self.matmul_flops_per_second)


@dataclass(frozen=True)
class KernelTime:
    """A kernel's seconds for a layer and its relative error; or why it has none.

    ``available`` is false where it is not to be had here at all, and nothing has failed.
    """

    kernel: Kernel
    layer_seconds: float | None = None
    error: float | None = None
    reason: str | None = None
    available: bool = True


@dataclass(frozen=True)
class LatentTimes:
    """What belongs to MLA's two forms; seconds for a layer.

    ``projection_seconds`` are absorption's two products (query into the latent space, result out
    of it), ``naive_seconds`` the whole step with the latent expanded to every head's keys and
    values (None where it was not measured, with the reason).
    """

    projection_seconds: float
    naive_seconds: float | None
    naive_reason: str | None = None


@dataclass(frozen=True)
class LayerTime:
    """One kind of layer: what its step took by the best kernel, and what bounds it.

    ``distinct_caches`` were read in turn. ``times`` are all kernels' that were tried.
    """

    shape: AttentionShape
    sequences: int
    distinct_caches: int
    best: KernelTime
    times: tuple[KernelTime, ...]
    latent: LatentTimes | None

    @property
    def layer_seconds(self) -> float:
        """Attention over one layer's cache."""
        return self.best.layer_seconds or 0.0

    @property
    def read_bytes(self) -> int:
        """Cache bytes of one layer."""
        return self.sequences * self.shape.bytes_per_sequence

    @property
    def flops(self) -> int:
        """Operations of one layer."""
        return self.sequences * self.shape.flops_per_sequence

    def roof_share(self, ceilings: Ceilings) -> float:
        """The least possible time over the measured one."""
        return ceilings.roof_seconds(self.read_bytes, self.flops) / self.layer_seconds

    def bound_by(self, ceilings: Ceilings) -> str:
        """The larger of the two roofs: ``bytes`` or ``FLOPs``."""
        by_bytes = self.read_bytes / ceilings.read_bytes_per_second
        return "bytes" if by_bytes >= self.flops / ceilings.matmul_flops_per_second else "FLOPs"


@dataclass(frozen=True)
class DecodeMeasurement:
    """Attention's part of one decode step, all layers of one GPU."""

    caches: CacheQuestion
    layers: tuple[LayerTime, ...]

    @property
    def token_seconds(self) -> float:
        """Attention over all layers' caches, one after the other."""
        return sum(layer.shape.layers * layer.layer_seconds for layer in self.layers)

    @property
    def read_bytes(self) -> int:
        """Cache bytes that a step reads."""
        return sum(layer.shape.layers * layer.read_bytes for layer in self.layers)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all sequences a second, if attention were all there is."""
        return self.caches.sequences / self.token_seconds

    @property
    def absorbed_token_seconds(self) -> float | None:
        """Attention with what absorption adds to it: MLA's projections; None without MLA."""
        latent = [layer for layer in self.layers if layer.latent]
        if not latent:
            return None
        return self.token_seconds + sum(
            layer.shape.layers * layer.latent.projection_seconds for layer in latent if layer.latent
        )

    @property
    def naive_token_seconds(self) -> float | None:
        """The same with MLA's latent expanded at each step; None where that was not measured."""
        naive = [layer.latent.naive_seconds for layer in self.layers if layer.latent]
        if not naive or None in naive:
            return None
        return sum(
            layer.shape.layers
            * ((layer.latent and layer.latent.naive_seconds) or layer.layer_seconds)
            for layer in self.layers
        )
