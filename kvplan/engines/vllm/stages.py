"""What of the layers' weights a pipeline stage has, where layers are not all alike."""

from __future__ import annotations

from fractions import Fraction

from kvplan.engines.vllm.experts import experts_on_gpu
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers

_SPARSE = ("routed_experts", "shared_experts", "router")

# Classes whose first layers (first_k_dense_replace) have an MLP in the place of experts.
_DENSE_FIRST = frozenset(
    {
        *("DeepseekForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"),
        *("DeepseekV32ForCausalLM", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM"),
        *("GlmMoeDsaForCausalLM", "KimiLinearForCausalLM", "KimiK25ForConditionalGeneration"),
        *("KimiVLForConditionalGeneration", "BailingMoeForCausalLM", "BailingMoeV2ForCausalLM"),
    }
)


def share_of_layers(
    spec: ModelSpec, part: str, layout: Layout, gpu: Gpu, own: StageLayers
) -> Fraction:
    """Of what is in all layers, the share of this stage's.

    Its share of the layers, but for parts that the first layers do not have, or alone have.
    """
    even = Fraction(own.count, spec.total_layers)
    if own.count == spec.total_layers or part not in (*_SPARSE, "dense_mlp"):
        return even
    dense = _dense_layers(spec, layout, gpu)
    if not dense:
        return even
    here = min(dense, own.count) if own.first else 0
    if part == "dense_mlp":
        return Fraction(here, dense)
    return Fraction(own.count - here, spec.total_layers - dense)


def _dense_layers(spec: ModelSpec, layout: Layout, gpu: Gpu) -> int:
    """Layers before the first with experts; 0 where that is not known."""
    if (spec.architecture or "") not in _DENSE_FIRST:
        return 0
    rows = [row for row in spec.weights if row.part == "routed_experts" and row.is_loaded]
    experts = experts_on_gpu(spec, rows, layout, gpu)
    return spec.total_layers - experts.layers if experts is not None else 0
