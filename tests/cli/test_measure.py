"""``kvplan measure`` as people and scripts meet it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import sleep

import pytest

from tests.command_line import answer, cells, kvplan

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")


@needs_torch
def test_the_default_set_on_a_cpu() -> None:
    result = kvplan("measure", "--device", "cpu", "--ctx", "64")
    assert result.returncode == 0
    assert result.stderr.startswith("note: a CPU has no counters")
    assert cells(result.stdout.partition("1 sequence each")[2]) == cells("""
        Cache                    Tokens   Planned B  Tensors  Verdict
        llama3-70b, arithmetic       64  20,971,520       +0  bytes right
        deepseek-v3, arithmetic      64   4,497,408       +0  bytes right
        llama2-7b, arithmetic        64  33,554,432       +0  bytes right
        deepseek-v2, arithmetic      64   4,423,680       +0  bytes right
    """)


@needs_torch
def test_everything_in_json() -> None:
    document = answer(
        *("measure", "llama3-70b", "deepseek-v2-lite", "--device", "cpu", "--ctx", "32"),
        *("--layout", "all", "--find-max", "--max-bytes", "64MiB", "--decode"),
    )
    assert document["command"] == "measure"
    assert document["inputs"]["context_tokens"] == 32
    assert document["card"]["kind"] == "cpu"
    assert len(document["caches"]) == 10
    first = document["caches"][0]
    assert (first["name"], first["layout"]) == ("llama3-70b", "arithmetic")
    assert first["planned_bytes"] == first["tensor_bytes"] == 10_485_760
    assert first["proved"]
    assert first["basis"] == "measured"
    limits = document["limits"][0]
    assert limits["max_context_tokens"] == limits["plan_max_context_tokens"] == 204  # of 64 MiB
    assert limits["context_search"]["exact"]
    assert limits["max_sequences"] == 6
    assert limits["weights_bytes"] is None
    layer = document["decode"][1]["layers"][0]
    assert (layer["label"], layer["layers"], layer["kernel"]) == ("MLA", 27, "torch")
    assert layer["read_bytes"] == 32 * 1_152
    assert layer["latent"]["naive_seconds"] > 0
    assert layer["roof_share"] is None  # a CPU's rates are no roof
    assert layer["read_bytes_per_second"] > 0
    assert document["checked_seconds"] > 0
    assert document["inputs"]["kv_cache_dtype"] == "bf16"
    (comparison,) = document["comparison"]
    assert comparison["bytes_ratio"] == pytest.approx(327_680 / 31_104)
    assert comparison["same_memory_sequences"] == 10
    assert comparison["tokens_per_second_ratio"] > 0
    assert document["ceilings"] is None


@needs_torch
@pytest.mark.parametrize("columns", [80, 140])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    result = kvplan(
        *("measure", "llama2-7b", "deepseek-v2-lite", "--device", "cpu", "--ctx", "16"),
        *("--find-max", "--max-bytes", "32MiB", "--decode"),
        columns=columns,
    )
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= columns
    for title in ("What the device holds", "One decode step", "MLA a token", "A token against"):
        assert title in result.stdout


@needs_torch
def test_what_does_not_fit_is_measured_as_far_as_it_goes() -> None:
    result = kvplan(
        *("measure", "llama3-70b", "--device", "cpu", "--ctx", "1M", "--max-bytes", "10MiB")
    )
    assert result.returncode == 1
    assert "1,048,576 tokens do not fit; measured with 32" in result.stderr
    assert "shortened" in result.stdout


def test_without_a_card_one_line_says_so() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = kvplan("measure")
    assert result.returncode == 4
    assert result.stdout == ""
    assert result.stderr == (
        f"error: no CUDA device: torch {torch.__version__} is built without CUDA\n"
        "  --device cpu measures in the host's memory\n"
    )


def test_without_torch_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = kvplan("measure")
    assert result.returncode == 4
    assert result.stderr == "error: kvplan measure needs torch\n  pip install 'kvplan[measure]'\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("lama3-70b",), 2, "did you mean llama3-70b"),
        (("--reserve-weights",), 2, "--reserve-weights is for --find-max"),
        (("--kernel", "sdpa"), 2, "--kernel is for --decode"),
        (("--save", "x.yaml", "--device", "cpu"), 2, "and this is a CPU"),
        (("--ctx", ""), 2, "not a number of tokens"),
        (("--block-size", "7"), 2, "--block-size is for --layout vllm"),
        (("--layout", "pages"), 2, "--layout pages is not known"),
        (("--layout", "grown", "--find-max"), 2, "allocated at once"),
        (("--kernel", "mine"), 2, "mine"),
        (("--max-bytes", "much"), 2, "is not a number of bytes"),
        (("--sequences", "0"), 2, "--sequences: '0' is not a whole number, one or more"),
    ],
)
def test_wrong_questions(arguments: tuple[str, ...], code: int, message: str) -> None:
    refuse(arguments, code, message)


@needs_torch
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--device", "tpu"), 2, "--device tpu is not known"),
        (("--decode", "--kernel", "sdpa", "--device", "cpu"), 2, "not a kernel for MLA"),
        (("glm-5.3-flash", "--layout", "vllm", "--device", "cpu"), 3, "how vLLM pages"),
        (("mamba-2.8b", "--decode", "--device", "cpu"), 3, "over Mamba is not measured"),
    ],
)
def test_what_cannot_be_measured(arguments: tuple[str, ...], code: int, message: str) -> None:
    refuse(arguments, code, message)


def refuse(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = kvplan("measure", *arguments)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@needs_torch
def test_a_kernel_that_is_not_there_takes_nothing_from_the_rest() -> None:
    result = kvplan(
        *("measure", "deepseek-v3", "--device", "cpu", "--ctx", "64"),
        *("--decode", "--kernel", "flashmla"),
    )
    assert result.returncode == 4
    assert "no kernel worked: flashmla: flash_mla is not installed" in result.stderr
    assert "4,497,408" in result.stdout


@needs_torch
def test_one_that_does_not_fit_takes_nothing_from_the_rest() -> None:
    result = kvplan(
        *("measure", "llama3.2-1b", "llama2-7b", "--device", "cpu", "--ctx", "64"),
        *("--max-bytes", "100KiB"),
    )
    assert result.returncode == 1
    assert "llama2-7b, arithmetic: not even a context of one token fits" in result.stderr
    assert "llama3.2-1b, arithmetic" in result.stdout


@needs_torch
def test_what_an_answer_rests_on_is_said(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"model_type": "foo_lm", "architectures": ["FooLM"], "hidden_size": 64,'
        ' "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,'
        ' "max_position_embeddings": 32, "head_dim": 16, "torch_dtype": "bfloat16",'
        ' "vocab_size": 100}'
    )
    result = kvplan(
        *("measure", str(config), "--assume", "kind=full_attention", "--device", "cpu"),
        *("--ctx", "64"),
    )
    assert result.returncode == 0
    assert "every layer of FooLM" in result.stderr
    assert "beyond its native context of 32" in result.stderr


def has_torch(pid: int) -> bool:
    """Whether this process has got as far as torch."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


@needs_torch
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_an_interrupt_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kvplan", "measure", "--device", "cpu", "--ctx", "4k", "--decode"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    ) as process:
        while process.poll() is None and not has_torch(process.pid):
            sleep(0.1)
        sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


def test_auto_is_no_length_to_measure() -> None:
    result = kvplan("measure", "gpt2", "--ctx", "auto", "--device", "cpu")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--ctx auto is no length to measure" in result.stderr
