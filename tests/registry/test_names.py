"""Which text is which model: names as people write them, ids, paths, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kvplan
from kvplan.errors import SpecError, UsageError
from kvplan.registry.names import known_models, load, model_files
from kvplan.registry.paths import is_path
from tests.command_line import Run

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "vocab_size": 100,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def make_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("llama-3.3-70b", "llama3.3-70b"),
        ("Llama-3.3-70B-Instruct", "llama3.3-70b"),
        ("meta-llama/llama-3.3-70b", "llama3.3-70b"),
        ("meta/llama-3.1-8b-instruct", "llama3.1-8b"),  # as NIM has it
        ("llama-3-1-8b", "llama3.1-8b"),
        ("llama_3.1_8b", "llama3.1-8b"),
        ("Llama 3.1 8B", "llama3.1-8b"),
        ("llama-2-7b-chat-hf", "llama2-7b"),
        ("llama-2-70b-chat", "llama2-70b"),
        ("phi4", "phi-4"),
        ("PHI_4", "phi-4"),
        ("gemma-3-27b-it", "gemma3-27b"),
        ("google/gemma3-27b", "gemma3-27b"),
        ("gptoss-120b", "gpt-oss-120b"),
        ("qwen3-235b", "qwen3-235b-a22b"),
        ("Qwen/Qwen3-235B", "qwen3-235b-a22b"),
        ("kimi-linear-48b", "kimi-linear-48b-a3b"),
        ("DeepSeek-V3-0324", "deepseek-v3"),
        ("DeepSeek-R1-0528", "deepseek-v3"),
        ("z-ai/glm-4.5-air", "glm-4.5-air"),  # as OpenRouter has it
        ("mistral-7b-instruct-v0.3", "mistral-7b-v0.3"),
        ("Llama-3_3-Nemotron-Super-49B-v1", "nemotron-super-49b"),
        ("codellama-34b-instruct", "codellama-34b"),
        ("deepseek-v3.2-exp", "deepseek-v3.2"),
        ("mistral-small-3.2-24b-instruct-2506", "mistral-small-3.1-24b"),
        ("Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b"),
        ("qwen3-4b-thinking-2507", "qwen3-4b-2507"),
        ("qwen3-235b-2507", "qwen3-235b-a22b-2507"),
        ("Kimi-K2-Instruct-0905", "kimi-k2-0905"),
    ],
)
def test_names_as_people_write_them(text: str, name: str) -> None:
    spec = kvplan.load(text)
    assert spec == kvplan.load(name)
    assert spec.name_note in (None, f"{text!r} is read as {name}")
    if "/" not in text or text.lower() not in known_models().by_alias:
        assert spec.name_note


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("QWEN3-8B", "qwen3-8b"),
        ("qwen/qwen3-8b", "qwen3-8b"),
        ("https://huggingface.co/Qwen/Qwen3-8B", "qwen3-8b"),
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main", "qwen3-8b"),
        ("hf.co/Qwen/Qwen3-8B/blob/main/config.json", "qwen3-8b"),
        ("Qwen/Qwen3-8B@main", "qwen3-8b"),
        ("llama3.3", "llama3.3-70b"),
    ],
)
def test_a_name_of_the_catalogue_needs_no_note(text: str, name: str) -> None:
    spec = kvplan.load(text)
    assert (spec.name, spec.name_note) == (name, None)


@pytest.mark.parametrize(
    ("text", "tokens", "weights_bytes"),
    [
        # config.json of these tunes as published: other contexts, other dtypes than their base
        ("Qwen/Qwen2.5-7B-Instruct", 32_768, 15_231_233_024),
        ("Qwen/Qwen2.5-7B", 131_072, 15_231_233_024),
        ("Qwen/Qwen2.5-1.5B-Instruct", 32_768, 3_087_428_608),
        ("Qwen/Qwen2.5-14B-Instruct", 32_768, 29_540_067_328),  # 14,770,033,664 parameters
        ("Qwen/Qwen2.5-32B-Instruct", 32_768, 65_527_752_704),  # 32,763,876,352
        ("Qwen/Qwen3-4B-Instruct-2507", 262_144, 8_044_936_192),  # 4,022,468,096
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 262_144, 61_064_245_248),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", 262_144, 61_064_245_248),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", 262_144, 470_187_269_120),  # 235,093,634,560
        # a byte and 4/16,384 of the 6,945,767,424 in projections, 2 of the other 1,244,967,936
        ("Qwen/Qwen3-8B-FP8", 40_960, 9_437_399_040),
        ("google/gemma-2-9b-it", 8_192, 18_483_411_968),  # 9,241,705,984 parameters in bf16
        ("google/gemma-2-9b", 8_192, 36_966_823_936),
        ("google/gemma-2-2b-it", 8_192, 5_228_683_776),  # 2,614,341,888 parameters in bf16
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", 262_144, 61_064_245_248),
        ("Qwen/Qwen3-30B-A3B", 40_960, 61_064_245_248),
    ],
)
def test_a_tune_with_figures_of_its_own_has_them(
    text: str, tokens: int, weights_bytes: int
) -> None:
    spec = kvplan.load(text)
    assert (spec.native_context_tokens, spec.weights_bytes) == (tokens, weights_bytes)


@pytest.mark.parametrize("name", ["qwen3-8b", "qwen3-32b", "qwen3-30b-a3b", "qwen3-235b-a22b"])
def test_fp8_in_blocks_has_a_scale_for_each(name: str) -> None:
    """A byte and 4/16,384 for each fp8 number; embedding, head, norms, routers stay in bf16."""
    base, fp8 = kvplan.load(name), kvplan.load(f"{name}-fp8")
    numbers = sum(row.elements for row in fp8.weights if row.dtype == "fp8")
    others = sum(row.elements for row in fp8.weights if row.dtype == "bf16")
    assert base.parameters is not None
    assert numbers + others == base.parameters.total
    assert fp8.weights_bytes == 2 * others + numbers + numbers // 16_384 * 4
    assert {row.part for row in fp8.weights if row.dtype == "bf16"} <= {
        *("embedding", "lm_head", "norm", "router"),
    }


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("deepseek-v4", "deepseek-v4-flash, deepseek-v4-pro"),
        ("gpt-oss", "gpt-oss-120b, gpt-oss-20b"),
        ("qwen3-coder", "qwen3-coder-30b-a3b, qwen3-coder-480b-a35b"),
    ],
)
def test_a_name_of_several_models_asks_which(text: str, listed: str) -> None:
    with pytest.raises(kvplan.UsageError) as error:
        kvplan.load(text)
    assert error.value.message == f"{text!r} could be {listed}"
    assert error.value.hint == "name the one that is meant"


@pytest.mark.parametrize(
    "text",
    [
        # other weights, or another context, under nearly the same name
        "Qwen/Qwen3-8B-AWQ",
        "qwen3-14b-fp8",
        "qwen3-14b-gptq-int4",
        "RedHatAI/Qwen3-8B-FP8-dynamic",
        "unsloth/Qwen3-8B-GGUF",
        "unsloth/Qwen3-8B",
        "google/gemma-2-27b",
        "state-spaces/mamba-2.8b",
        "Qwen2.5-Coder-32B-Instruct",
        "Qwen/Qwen3-30B-A3B-Instruct-2507-FP8",
        "unsloth/Kimi-K2-Instruct-0905",
        "deepseek-ai/DeepSeek-V4-Flash-0731",  # a drafter of another kind
        "meta-llama/Llama-4-Scout-17B-16E",
        "Mistral-7B-Instruct-v0.2",
        "llama-3-8b-262k",
        "qwen3.1-7b",  # not Qwen3-1.7B: a point that is written is one
        "llama3.1:8b",  # Ollama's tag is a quantised file
        "Qwen/Qwen3-8B@9c925d64d72725edaf899c6cb9c377fd0709d9c5",
    ],
)
def test_a_derivative_that_may_differ_is_refused(text: str) -> None:
    with pytest.raises(kvplan.UsageError):
        kvplan.load(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("llama3-70", "did you mean llama3-70b?"),
        ("lama3-70b", "did you mean llama3-70b, llama3.1-70b, llama3.3-70b?"),
        ("qwen3-8", "did you mean qwen3-8b"),
        ("gpt-oss:120b", "did you mean gpt-oss-120b?"),
        ("unsloth/Qwen3-8B", "write qwen3-8b if that is meant"),
        ("Qwen/Qwen3-8B-AWQ", "qwen3-8b with quantization fp8 or int4 is an estimate"),
        ("Qwen/Qwen3-8B@v2", "kvplan import --from-hub Qwen/Qwen3-8B@v2 -o model.yaml"),
    ],
)
def test_the_nearest_names_are_offered(text: str, hint: str) -> None:
    with pytest.raises(kvplan.UsageError) as error:
        kvplan.load(text)
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("text", ["foo", "3090", "x", "a/b/c", "70b", "zzz-70b", "x" * 100_000])
def test_nothing_is_offered_for_what_is_like_nothing(text: str) -> None:
    with pytest.raises(kvplan.UsageError, match="no model is called") as error:
        kvplan.load(text)
    assert "did you mean" not in str(error.value.hint)


@pytest.mark.parametrize(
    "text",
    ["./x", "../x", "/x", "~/x", "~", ".", "..", "x/", "x.yaml", "x.YML", "o/x.json", "x.gguf"],
)
def test_what_is_a_path(text: str) -> None:
    assert is_path(text)


@pytest.mark.parametrize("text", ["x", "org/x", ".x", "qwen3-0.6b", "https://hf.co/org/x/"])
def test_what_is_a_name_first(text: str) -> None:
    assert not is_path(text)


def test_the_catalogue_goes_before_a_folder_of_the_same_name(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "deepseek-ai" / "DeepSeek-V3")
    spec = kvplan.load("deepseek-ai/DeepSeek-V3", folder=tmp_path)
    assert spec.total_layers == 61
    assert "'./deepseek-ai/DeepSeek-V3'" in str(spec.name_note)
    for text in ("./deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-V3/"):
        spec = kvplan.load(text, folder=tmp_path)
        assert (spec.total_layers, spec.name_note) == (2, None)


def test_every_command_reads_the_same_text_as_the_same_model(tmp_path: Path, run: Run) -> None:
    make_checkpoint(tmp_path / "deepseek-ai" / "DeepSeek-V3")
    make_checkpoint(tmp_path / "qwen3-8b")
    (tmp_path / "deploy.yaml").write_text(
        "deployments:\n"
        "  - {name: a, model: deepseek-ai/DeepSeek-V3, gpu: h200, context: 8k, gpus: 8}\n"
    )
    note = "the catalogue goes before the path of that name"
    text = "deepseek-ai/DeepSeek-V3"
    for command in (
        ("plan", text),
        ("show", text),
        ("compare", text, "qwen3-8b"),
        ("layouts", text, "--gpu", "h200", "--gpus", "8"),
        ("diff", text, "qwen3-8b"),
        ("check", "deploy.yaml"),
    ):
        notes = run(*command, "--json").document["notes"]
        assert any(note in said for said in notes), command


def test_what_the_catalogue_does_not_know_is_looked_for_as_a_path(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "my-model")
    spec = kvplan.load("my-model", folder=tmp_path)
    assert spec.total_layers == 2
    assert spec.name_note == (
        f"'my-model' is no name of the catalogue: read from {tmp_path / 'my-model'}"
    )
    (tmp_path / "empty").mkdir()
    for text in ("empty", "./empty"):
        with pytest.raises(kvplan.UsageError, match=r"holds no config\.json"):
            kvplan.load(text, folder=tmp_path)
    with pytest.raises(kvplan.UsageError, match="no model is called") as error:
        kvplan.load("nowhere", folder=tmp_path)
    assert "files are ./NAME, or end in .yaml or .json" in str(error.value.hint)


def test_home_is_found_without_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_checkpoint(tmp_path / "model")
    assert kvplan.load("~/model").total_layers == 2
    with pytest.raises(kvplan.UsageError, match="no-such-user-here"):
        kvplan.load("~no-such-user-here/model.yaml")


def test_a_path_object_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kvplan.SpecError, match="No such file"):
        kvplan.load(Path("qwen3-8b"))


def test_heads_of_files_have_the_aliases_that_the_whole_has() -> None:
    assert known_models().aliases == {spec.name: tuple(spec.aliases) for spec in kvplan.catalogue()}


@pytest.mark.parametrize("name", sorted(model_files()))
def test_every_name_and_id_means_its_own_model_however_it_is_spelt(name: str) -> None:
    names = known_models()
    for text in (name, *names.aliases[name]):
        organisation, slash, own = text.rpartition("/")
        underscored = f"{organisation}{slash}{own.replace('-', '_')}"
        for spelling in (text, text.upper(), underscored):
            assert names.by_alias.get(spelling.lower(), name) == name
            assert name in names.spelt_like(spelling)


def test_search_lists_models_by_name_or_id(run: Run) -> None:
    listed = run("list", "--search", "R1-0528", "--json").document["models"]
    assert [model["name"] for model in listed] == ["deepseek-v3"]
    listed = run("list", "--search", "qwen3 30b", "--json").document["models"]
    assert {model["name"] for model in listed} >= {"qwen3-30b-a3b", "qwen3-vl-30b-a3b"}
    listed = run("list", "--search", "glm", "--kind", "mla", "--json").document["models"]
    assert {"glm-5", "glm-4.7-flash"} <= {model["name"] for model in listed}
    assert "glm-4.5" not in {model["name"] for model in listed}
    result = run("list", "--search", "qwem3-8b")
    assert result.returncode == 2
    assert "did you mean qwen3-8b" in result.stderr


def test_search_lists_gpus(run: Run) -> None:
    listed = run("list", "gpus", "--search", "4090", "--json").document["gpus"]
    assert [gpu["name"] for gpu in listed] == ["rtx-4090-24gb"]
    assert run("list", "gpus", "--search", "foo").returncode == 2
    assert run("list", "formats", "--search", "fp8").returncode == 2


def test_the_list_has_ids_and_contexts(run: Run) -> None:
    (line,) = (
        line
        for line in run("list", "--search", "llama4-scout", "--format", "markdown").stdout.split(
            "\n"
        )
        if "llama4-scout" in line
    )
    assert "10,485,760" in line
    assert "meta-llama/Llama-4-Scout-17B-16E-Instruct" in line


def test_a_link_to_nothing_is_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(SpecError, match=r"config\.json: cannot be read: a link"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        load(tmp_path / "empty")
