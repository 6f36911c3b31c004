"""``kvplan plan --emit``: what is printed starts the server that was planned."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvplan.engines.vllm.arguments import argument
from kvplan.units import GIB
from tests.command_line import Run

PLANS = {
    "llama3.3-70b": "--gpus 4 --ctx 32k --kv-cache-dtype fp8",
    "meta-llama/Llama-3.3-70B-Instruct": "-tp 4 -pp 2 --pipeline-partition 41,39 --enforce-eager",
    "deepseek-v3": "--gpu h200 -dp 8 -ep --draft --max-num-batched-tokens 4096 --block-size 64",
    "deepseek-ai/DeepSeek-R1": "--gpu h200 -tp 8 -dcp 8 --gpu-memory-utilization 0.9",
    "deepseek-v2-lite": "-pcp 2 --ctx 32k",
    "gemma3-27b": "--gpus 2 --disable-hybrid-kv-cache-manager --no-enable-prefix-caching --ctx 64k",
    "qwen3-8b": "--gpu rtx-4090 --dtype float16 --sequences 2 --max-num-seqs 4 --ctx 8k",
    "llama3.1-8b": "-tp 2 --draft-model llama3.2-1b --num-speculative-tokens 3 --ctx 16k",
    "qwen3-32b": '-tp 4 --ctx 16k --limit-mm-per-prompt {"image":0} --attention-backend flash_attn '
    '--speculative-config {"method":"ngram","num_speculative_tokens":3}',
    "gpt-oss-120b": "-tp 2 --kv-cache-memory-bytes 20GiB --num-gpu-blocks-override 9000 --ctx 8k",
    "qwen2.5-7b": "--ctx 8k --max-loras 4 --max-lora-rank 32 --kv-offloading-size 44GiB",
    "qwen3-next-80b-a3b": "-tp 4 --mamba-ssm-cache-dtype float32 --ctx 32k --max-num-seqs 64",
}


def words_of(run: Run, model: str, options: str) -> list[str]:
    """The command's words. Everything else that is said goes to stderr."""
    result = run("plan", model, *_split(options), "--emit")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    return shlex.split(line)


def _split(options: str) -> list[str]:
    return options.split(" ")


def as_kvplan_takes_it(words: list[str]) -> list[str]:
    """The command as kvplan's options: what is spelt otherwise, and what vLLM alone has."""
    partition = [word.partition("=")[2] for word in words if word.startswith("VLLM_PP_")]
    words = words[words.index("serve") + 1 :]
    words = [word for word in words if word != "--enable-lora"]
    if "--kv-offloading-size" in words:
        at = words.index("--kv-offloading-size") + 1
        words[at] = str(int(float(words[at]) * GIB))  # vLLM takes GiB
    return [*words, *(["--pipeline-partition", *partition] if partition else [])]


def answers(document: dict[str, Any]) -> dict[str, Any]:
    """What a plan says, but for what it was asked."""
    asked = ("inputs", "native", "runner_up", "notes", "warnings", "answer", "name")
    return {key: value for key, value in document.items() if key not in asked}


@pytest.mark.parametrize("model", PLANS)
def test_the_command_read_back_is_the_same_plan(run: Run, model: str) -> None:
    options = _split(PLANS[model])
    words = as_kvplan_takes_it(words_of(run, model, PLANS[model]))
    hardware = ["--gpu", options[options.index("--gpu") + 1]] if "--gpu" in options else []
    load = ["--sequences", "2"] if "--sequences" in options else []
    wanted = run("plan", model, *options, "--engine", "vllm", "--json").document
    again = run("plan", *words, *hardware, *load, "--engine", "vllm", "--json").document
    assert answers(again) == answers(wanted)


@pytest.mark.parametrize("model", PLANS)
def test_every_flag_is_one_of_that_version(run: Run, model: str) -> None:
    words = words_of(run, model, PLANS[model])
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            known = argument(word)
            assert (known.kind == "flag") == (following.startswith("--") or not following), word
            if known.kind == "integer":
                assert following.isdigit(), word
            if known.kind == "json":
                assert isinstance(json.loads(following), dict), word


def test_a_container(run: Run) -> None:
    result = run(
        *("plan", "deepseek-v3", "--gpu", "h200", "-tp", "4", "-pp", "2", "--ctx", "64k"),
        *("--pipeline-partition", "31,30", "--draft", "--emit=k8s"),
    )
    assert yaml.safe_load(result.stdout) == {
        "command": ["vllm", "serve"],
        "args": [
            "deepseek-ai/DeepSeek-V3",
            "--tensor-parallel-size=4",
            "--pipeline-parallel-size=2",
            "--max-model-len=65536",
            '--speculative-config={"method":"mtp","num_speculative_tokens":1}',
        ],
        "env": [{"name": "VLLM_PP_LAYER_PARTITION", "value": "31,30"}],
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    }


def test_a_server_that_would_not_start_is_not_printed(run: Run) -> None:
    result = run("plan", "llama3.3-70b", "--gpus", "1", "--emit")
    assert (result.returncode, result.stdout) == (1, "")
    assert "does not fit" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--quantization int4 --gpus 2", 2, "does not quantise to int4"),
        ("--json --gpus 4", 2, "--emit prints a command, not json"),
        ("--num-speculative-tokens 2 --gpus 4 --ctx 8k", 2, "does not say who drafts"),
        ("--engine vllm@0.12 --gpus 4", 3, "the arguments of vllm 0.12.0 are not known"),
    ],
)
def test_what_no_command_realises(run: Run, options: str, code: int, words: str) -> None:
    result = run("plan", "llama3.3-70b", *_split(options), "--emit")
    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr


def test_a_checkpoint_in_16_bit_is_quantised_when_it_is_loaded(run: Run) -> None:
    words = words_of(run, "llama3.3-70b", "-tp 2 --quantization fp8 --ctx 8k")
    assert words[words.index("--quantization") + 1] == "fp8"


def test_a_load_above_the_default_cap_raises_it(run: Run) -> None:
    """A GPU of 80 GB starts with max_num_seqs 1024 (vLLM 0.33.0 engine/arg_utils.py:2940)."""
    options = "--gpu h100 -tp 4 --ctx 128 --sequences"
    assert "--max-num-seqs" not in words_of(run, "llama3.1-8b", f"{options} 1024")
    words = words_of(run, "llama3.1-8b", f"{options} 1500")
    assert words[words.index("--max-num-seqs") + 1] == "1500"


def test_other_nodes_replicas_and_checkpoints_are_told_of_beside_it(run: Run) -> None:
    result = run("plan", "deepseek-v3", "-tp", "8", "-pp", "2", "--replicas", "2", "--emit")
    (line,) = result.stdout.splitlines()
    assert line.endswith("--nnodes 2 --node-rank 0 --master-addr HEAD_NODE")
    assert "2 replicas: start the server so many times, each on 16 GPUs" in result.stderr
    assert "on node 2 of 2 run: vllm serve deepseek-ai/DeepSeek-V3" in result.stderr
    assert "same figures as deepseek-ai/DeepSeek-V3-0324" in result.stderr


def test_it_stands_before_a_model_as_well(run: Run) -> None:
    result = run("plan", "--emit", "gpt2", "--quiet")
    assert result.stdout.startswith("vllm serve openai-community/gpt2 ")


@pytest.mark.parametrize(
    ("gpu", "resource"),
    [("h100", "nvidia.com/gpu"), ("80GiB", "nvidia.com/gpu"), ("mi300x", "amd.com/gpu")],
)
def test_the_gpus_of_a_container_are_their_makers(run: Run, gpu: str, resource: str) -> None:
    result = run("plan", "qwen3-8b", "--gpu", gpu, "--ctx", "8k", "--emit=k8s")
    if result.returncode == 3:
        pytest.skip("no rules for this card")
    assert yaml.safe_load(result.stdout)["resources"]["limits"] == {resource: "1"}


def test_a_context_at_which_vllm_does_not_start_is_not_printed(run: Run) -> None:
    """As config/model.py of 0.33.0 says it, in _get_and_verify_max_len."""
    result = run("plan", "llama3-8b", "--ctx", "64k", "--emit")
    assert (result.returncode, result.stdout) == (3, "")
    assert "max_model_len (65536) is greater than the derived max_model_len (8192)" in result.stderr


def test_kv_dtypes_have_vllms_names(run: Run) -> None:
    words = words_of(run, "qwen3-8b", "--ctx 8k --kv-cache-dtype bf16")
    assert words[words.index("--kv-cache-dtype") + 1] == "bfloat16"


def test_a_name_that_a_terminal_would_obey_is_in_no_command(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine\x1b[2J"
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    rest = {"intermediate_size": 128, "vocab_size": 1000, "torch_dtype": "bfloat16"}
    text = json.dumps(config | sizes | rest | {"max_position_embeddings": 4096})
    (folder / "config.json").write_text(text, encoding="utf-8")
    result = run("plan", f"./{folder.name}", "--ctx", "4k", "--emit")
    assert (result.returncode, result.stdout) == (2, "")
    assert "\x1b" not in result.stderr
    folder.rename(tmp_path / "my model's")
    words = words_of(run, "./my model's", "--ctx 4k")
    assert words[:3] == ["vllm", "serve", "my model's"]
