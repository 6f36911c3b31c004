"""The catalogue: every spec valid, every figure as worked out outside kvplan."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

import kvplan
from kvplan.hf.spec_yaml import to_yaml
from kvplan.registry.names import model_files, read_model
from kvplan.spec import ModelSpec
from kvplan.stored import StoredWeights

# Figures in bf16 from hand-written formulas over the published config.json files, index keys at
# 132 B (DSA) as engines store them; a new model is one YAML file and one row here.
with (Path(__file__).parent / "expected_figures.csv").open(newline="") as _file:
    EXPECTED = {row["model"]: row for row in csv.DictReader(_file)}

# Width of one routed expert, and what it has to agree with: the width of what it sees (the hidden
# size, or a latent one), layers that have experts, and matrices of each, as published.
with (Path(__file__).parent / "expert_figures.csv").open(newline="") as _file:
    EXPERTS = {row.pop("model"): row for row in csv.DictReader(_file)}

# Weights of draft layers by the shapes of their matrices, and the elements of the whole checkpoint
# that huggingface.co counts: with fp32 scales or without, and in some with two copies of the ends.
with (Path(__file__).parent / "draft_figures.csv").open(newline="") as _file:
    DRAFTS = {row["model"]: row for row in csv.DictReader(_file)}

PROMISED = """
llama2-7b llama2-13b llama2-70b llama3-8b llama3-70b llama3.1-8b llama3.1-70b llama3.1-405b
llama4-scout llama4-maverick mistral-7b mixtral-8x7b mixtral-8x22b mistral-large-3 qwen2.5-7b
qwen2.5-72b qwen3-0.6b qwen3-8b qwen3-32b qwen3-30b-a3b qwen3-235b-a22b qwen3-next-80b-a3b
qwen3.5-35b-a3b qwen3.5-397b-a17b gemma2-9b gemma2-27b gemma3-12b gemma3-27b gemma3n gemma4
phi-4 gpt-oss-20b gpt-oss-120b deepseek-llm-67b deepseek-v2-lite deepseek-v2 deepseek-v3
deepseek-r1 deepseek-v3.2 deepseek-v4-flash deepseek-v4-pro kimi-k2 kimi-linear kimi-k3 glm-4.5
glm-4.7-flash glm-5 glm-5.2 minimax-m2 minimax-m3 minimax-text-01 nemotron-h-56b
nemotron-3-nano jamba-1.5-large falcon-40b falcon-180b falcon-h1 granite-4 minicpm3-4b
longcat-flash hunyuan-a13b step-3 whisper-large-v3 llama3.2-90b-vision
"""


@pytest.fixture(params=sorted(model_files()))
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return kvplan.load(str(request.param))


def test_every_shipped_spec_passes_the_checks_of_a_users_own(spec: ModelSpec) -> None:
    """The fast way in, without pydantic, gives what the strict one gives."""
    assert read_model(model_files()[spec.name]) == spec


def test_growth_and_fixed_bytes_are_as_worked_out_by_hand(spec: ModelSpec) -> None:
    row = EXPECTED[spec.name]
    result = kvplan.footprint(spec, 131_072, kv_cache_dtype="bf16")
    assert result.bytes_per_token == Fraction(row["bytes_per_token_bf16"])
    assert result.fixed_bytes_per_sequence == int(row["fixed_bytes_per_sequence"])
    assert result.cross_attention_bytes_per_sequence == int(row["cross_attention_bytes"])


def test_parameters_add_up_to_what_the_checkpoint_stores(spec: ModelSpec) -> None:
    assert spec.parameters is not None
    rows = [row for row in spec.weights if row.what in (None, "skipped")]
    language = sum(row.elements for row in rows if row.part not in ("vision", "audio"))
    assert language == spec.parameters.of_language
    if spec.parameters.total is None:
        assert spec.not_counted
    else:
        assert sum(row.elements for row in rows) == spec.parameters.total


TOTALS = {
    # With everything in the checkpoint but MTP layers: classes of transformers 5.24.0 on the meta
    # device; Gemma 3n, as huggingface.co counts it, and Gemma 4 E2B, 963 buffers fewer than there.
    "gemma3-4b": (4_300_079_472, 3_880_263_168),
    "gemma3-27b": (27_432_406_640, 27_009_346_304),
    "gemma3n-e2b": (5_439_438_272, 4_435_182_688 + 10 * (2 * 512 * 2048 + 256)),
    "gemma3n-e4b": (7_849_978_192, 6_835_235_568 + 15 * (2 * 512 * 2048 + 256)),
    "gemma4-e2b": (5_123_178_979 - 963, 4_628_569_344 + 18_880_512),
    "llama3.2-11b-vision": (10_670_220_835, 9_775_192_080),
    "llama3.2-90b-vision": (88_593_355_323, 87_666_865_192),
    "qwen3.5-35b-a3b": (35_107_181_936, 34_660_610_688),
    "qwen3.5-122b-a10b": (122_562_817_776, 122_111_526_912),
    "qwen3.5-397b-a17b": (396_802_360_816, 396_346_350_336),
    "qwen3-vl-235b-a22b-thinking": (235_670_022_896, 235_093_634_560),
    "llama3-8b": (8_030_261_248, 8_030_261_248),
}


@pytest.mark.parametrize("name", TOTALS)
def test_the_total_is_the_language_model_and_its_towers(name: str) -> None:
    parameters = kvplan.load(name).parameters
    assert parameters is not None
    assert (parameters.total, parameters.of_language) == TOTALS[name]
    assert parameters.of_towers == TOTALS[name][0] - TOTALS[name][1]


def test_keys_and_values_that_sharing_layers_store_are_not_loaded() -> None:
    """15 layers of k, v (512 x 2,048 each) and a norm of 256 in bf16 (vLLM gemma3n.py:316)."""
    spec = kvplan.load("gemma3n-e4b")
    loaded_bytes = sum(spec.loaded_bytes.values())
    assert (spec.weights_bytes or 0) - loaded_bytes == 2 * 15 * (2 * 512 * 2048 + 256)


def test_every_model_with_routed_experts_has_their_width() -> None:
    assert {spec.name for spec in kvplan.catalogue() if spec.routed_experts} == set(EXPERTS)


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_are_as_wide_as_their_elements_make_them(name: str) -> None:
    spec, row = kvplan.load(name), {key: int(value) for key, value in EXPERTS[name].items()}
    width, seen = row["expert_intermediate_size"], row["width_seen"]
    assert spec.expert_intermediate_size == width
    biases = 2 * width + seen if name.startswith("gpt-oss") else 0
    stored = [line for line in spec.weights if line.part == "routed_experts" and not line.what]
    assert sum(line.elements for line in stored) == (
        row["expert_layers"]
        * (spec.routed_experts or 0)
        * (row["matrices"] * width * seen + biases)
    )


def test_a_spec_that_is_written_out_reads_back_as_it_was(tmp_path: Path) -> None:
    spec, file = kvplan.load("deepseek-v4-flash"), tmp_path / "spec.yaml"
    file.write_text(to_yaml(spec, {}), encoding="utf-8")
    assert kvplan.load(file) == spec


def test_every_spec_names_its_source(spec: ModelSpec) -> None:
    assert len(spec.source) > 10
    assert model_files()[spec.name].stem == spec.name


@pytest.mark.parametrize("name", PROMISED.split())
def test_promised_models_are_there(name: str) -> None:
    assert kvplan.load(name).parameters is not None


def test_names_and_aliases_mean_one_model_each() -> None:
    names = [name.lower() for spec in kvplan.catalogue() for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("meta-llama/Meta-Llama-3-70B", "llama3-70b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-v3"),
        ("DEEPSEEK-R1", "deepseek-v3"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
    ],
)
def test_aliases_and_hugging_face_ids_are_names_too(alias: str, name: str) -> None:
    assert kvplan.load(alias).name == name


@pytest.mark.parametrize(
    ("name", "native"),
    [("llama3-70b", 8_192), ("llama3.1-70b", 131_072), ("qwen2.5-72b-instruct", 32_768)],
)
def test_native_context_is_the_models_own(name: str, native: int) -> None:
    assert kvplan.load(name).native_context_tokens == native


@pytest.mark.parametrize(
    ("name", "weights_bytes"),
    [
        # total_size of model.safetensors.index.json, as published
        ("llama2-7b", 13_476_835_328),
        ("llama2-70b", 137_953_316_864),
        ("gpt-oss-120b", 65_248_815_744),
        ("minimax-m2", 230_121_630_720),
        ("llama3.1-405b", 811_706_777_600),
        # file sizes 688,586,727,753 = this + 15,424,227,552 of the MTP layer + file headers
        ("deepseek-v3", 673_150_611_808),
    ],
)
def test_weights_are_the_published_bytes(name: str, weights_bytes: int) -> None:
    assert kvplan.load(name).weights_bytes == weights_bytes


def stored_elements(rows: Iterable[StoredWeights], *, scales: bool) -> int:
    return sum(row.elements for row in rows if scales or row.what != "scales")


def test_every_model_with_weights_of_draft_layers_has_figures_for_them() -> None:
    assert {spec.name for spec in kvplan.catalogue() if spec.draft_weights} == set(DRAFTS)


@pytest.mark.parametrize("name", DRAFTS)
def test_draft_weights_are_as_worked_out_by_hand(name: str) -> None:
    rows, expected = kvplan.load(name).draft_weights, DRAFTS[name]
    assert sum(row.elements for row in rows if not row.what) == int(expected["draft_elements"])
    assert sum(row.size_bytes for row in rows) == int(expected["draft_bytes"])
    assert not {"embedding", "lm_head"} & {row.part for row in rows}


@pytest.mark.parametrize(
    "name", [name for name, row in DRAFTS.items() if row["published_elements"]]
)
def test_model_and_draft_layers_are_the_whole_published_checkpoint(name: str) -> None:
    spec, row = kvplan.load(name), DRAFTS[name]
    scales = row["with_scales"] == "1"
    (embedding,) = [line.elements for line in spec.weights if line.part == "embedding"]
    assert int(row["published_elements"]) == (
        stored_elements((*spec.weights, *spec.draft_weights), scales=scales)
        + int(row["copies_of_ends"]) * embedding
    )


@pytest.mark.parametrize(
    ("name", "published_bytes", "copies"),
    [
        # the MTP layer's own tensors with its two copies of 129,280 × 7,168 in bf16
        ("deepseek-v3", 15_424_227_552, 2 * 2 * 926_679_040),
        # tensors under mtp.* in the published files
        ("qwen3.5-397b-a17b", 13_191_136_256, 0),
    ],
)
def test_draft_weights_are_the_published_bytes(
    name: str, published_bytes: int, copies: int
) -> None:
    rows = kvplan.load(name).draft_weights
    assert sum(row.size_bytes for row in rows) + copies == published_bytes


def test_draft_weights_are_on_the_last_stage_as_the_draft_layers_are() -> None:
    spec = kvplan.load("glm-4.5")
    first, last = spec.stages(2)
    assert (first.draft, first.draft_weights) == ((), ())
    assert (last.draft, last.draft_weights) == (spec.draft, spec.draft_weights)


def test_auto_is_the_scheme_that_the_checkpoint_names() -> None:
    """ModelOpt's kv_cache_quant_algo and DeepSeek-V4's own format; never the weights' dtype."""
    assert kvplan.footprint(kvplan.load("llama3.1-70b-fp8"), 1).bytes_per_token == 163_840
    assert kvplan.footprint(kvplan.load("deepseek-v4-pro"), 1).kv_cache_dtype == "fp8_ds_mla"
    assert kvplan.footprint(kvplan.load("deepseek-v3"), 1).kv_cache_dtype == "bf16"


def test_gpus_have_a_sourced_memory_figure_below_the_drivers() -> None:
    gpus = kvplan.gpus()
    names = [name for gpu in gpus for name in (gpu.name, *gpu.aliases)]
    twice = {name for name in names if names.count(name) > 1}
    assert all(name.replace("-", "").startswith(("rtxpro6000", "pro6000")) for name in twice)
    assert kvplan.load_gpu("h100").memory_bytes == 85_017_493_504  # measured
    for gpu in gpus:
        if gpu.driver_memory_mib is not None:
            assert gpu.memory_bytes <= gpu.driver_memory_mib * 2**20, gpu.name


@pytest.mark.parametrize(
    ("name", "domain", "capability"),
    [
        # developer.nvidia.com/cuda-gpus; a rack of GB200 or GB300 has 18 hosts of 4 GPUs
        ("h100", 8, "9.0"),
        ("b200", 8, "10.0"),
        ("gb200", 72, "10.0"),
        ("b300", 8, "10.3"),
        ("gb300", 72, "10.3"),
        ("gh200", 1, "9.0"),
        ("strix-halo-128gb", 1, None),  # a processor's own, as those of a Mac
        ("m4-16gb", 1, None),
        ("l4", 8, "8.9"),
        ("v100", 8, "7.0"),
        ("mi300x", 8, None),
        ("gaudi3", 8, None),
    ],
)
def test_gpus_that_reach_one_another_at_the_links_rate(
    name: str, domain: int, capability: str | None
) -> None:
    gpu = kvplan.load_gpu(name)
    assert (gpu.link_domain, gpu.link_domain_is_assumed) == (domain, False)
    assert gpu.compute_capability == capability


def test_a_link_domain_that_nobody_knows_is_eight_and_said_to_be_assumed() -> None:
    gpu = kvplan.load_gpu("rtx-4090")
    assert gpu.link_domain_gpus is None
    assert (gpu.link_domain, gpu.link_domain_is_assumed) == (8, True)


def test_a_node_is_a_link_domain_where_no_other_is_known() -> None:
    gpu = replace(kvplan.load_gpu("rtx-4090"), gpus_per_node=2)
    assert (gpu.link_domain, gpu.link_domain_is_assumed) == (2, False)


def test_link_domains_are_whole_nodes_and_every_maker_names_its_targets() -> None:
    for gpu in kvplan.gpus():
        assert (gpu.link_domain_gpus is None) == (gpu.gpus_per_node is None), gpu.name
        assert (gpu.link_domain_gpus or 0) % (gpu.gpus_per_node or 1) == 0, gpu.name
        assert gpu.description
        assert (gpu.compute_capability is None) != gpu.description.startswith("NVIDIA"), gpu.name
        assert (gpu.gfx_target is None) != gpu.description.startswith("AMD"), gpu.name


def test_every_model_names_its_architecture() -> None:
    """But for the one whose config.json is of the state-spaces code and names none."""
    unnamed = [name for name in model_files() if not kvplan.load(name).architecture]
    assert unnamed == ["mamba2-2.7b"]
