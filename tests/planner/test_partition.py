"""Pipeline stages of unequal length, as somebody asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvplan
from tests.command_line import answer
from tests.command_line import kvplan as run

DEEPSEEK: dict[str, Any] = {"gpu": "h200", "context_tokens": "32k", "sequences": 8}


def per_token(**options: Any) -> Any:
    return kvplan.plan("deepseek-v3", **DEEPSEEK, **options).budget.cache.bytes_per_token


def test_the_first_stage_of_33_layers_keeps_33_latents() -> None:
    """vllm-ascend#4892: 33 x 576 x 2 B, where an even split has 31."""
    options = {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}
    assert per_token(**options, pipeline_partition=[33, 28]) == 33 * 1_152 == 38_016
    assert per_token(**options) == 31 * 1_152 == 35_712


@pytest.mark.parametrize("written", ["33,28", " 33 , 28 ", (33, 28), [33, 28]])
def test_it_implies_the_stages(written: Any) -> None:
    plan = kvplan.plan(
        "deepseek-v3", **DEEPSEEK, tensor_parallel_size=8, pipeline_partition=written
    )
    assert (plan.layout.pipeline, plan.layout.partition) == (2, (33, 28))
    assert plan.stage_layers == (33, 28)


def test_weights_go_with_the_layers() -> None:
    """A stage's share of the layers' weights: 60 and 20 of Llama-3-70B's 80 layers, without ends.

    Attention is 80 x 2 x 8,192 x (8,192 + 1,024) elements, 2 B each.
    """
    plan = kvplan.plan(
        "llama3-70b", gpu="h200", context_tokens=1, sequences=1, pipeline_partition=[60, 20]
    )
    attention = next(line for line in plan.budget.weights if line.part == "attention")
    assert attention.size_bytes == 60 * 2 * 8_192 * (8_192 + 1_024) * 2
    assert "embedding" in {line.part for line in plan.budget.weights}


def test_draft_layers_stay_in_the_last_stage() -> None:
    """With their MTP layer 28 + 1 layers: still fewer than 33."""
    options = {"tensor_parallel_size": 8, "draft": True}
    assert per_token(**options, pipeline_partition=[33, 28]) == 33 * 1_152
    assert per_token(**options, pipeline_partition=[29, 32]) == 33 * 1_152


def test_the_answer_says_which_split_it_used() -> None:
    arguments = ("plan", "deepseek-v3", "--gpu", "h200", "-tp", "8", "-pp", "2", "--ctx", "32k")
    assert "31 + 30 layers, even" in run(*arguments).stdout
    assert answer(*arguments)["layout"]["pipeline_layers"] == [31, 30]
    split = (*arguments, "--pipeline-partition", "33,28")
    assert "33 + 28 layers, as given" in run(*split).stdout
    assert answer(*split)["layout"]["pipeline_layers"] == [33, 28]


def test_many_equal_stages_are_counted() -> None:
    """``get_pp_indices``: 80 layers over 32 stages are 2 each, 3 from the last but one back."""
    said = run("plan", "llama3-70b", "--gpu", "h200", "--gpus", "32", "-pp", "32").stdout
    assert "15 × 2 + 16 × 3 + 2 layers" in " ".join(said.split())


def test_layouts_and_compare_say_it_too() -> None:
    rows = answer("layouts", "deepseek-v3", "--gpu", "h200", "--gpus", "16")["layouts"]
    of_two = [row["pipeline_layers"] for row in rows if row["pipeline_parallel"] == 2]
    assert of_two
    assert all(layers == [31, 30] for layers in of_two)
    arguments = (
        "compare",
        "llama3-70b",
        "--gpu",
        "h200",
        "-tp",
        "4",
        "--pipeline-partition",
        "60,20",
    )
    assert answer(*arguments)["models"][0]["layout"]["pipeline_layers"] == [60, 20]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("33,27",), "33 + 27 is 60 layers; deepseek-v3 has 61"),
        (("33,28", "-pp", "3"), "33, 28 has 2 stages, and -pp says 3"),
        (("61", "-pp", "2"), "61 has 1 stage, and -pp says 2"),
        (("33,x",), "not '33,x'"),
        (("61,0",), "not '61,0'"),
        (("62,-1",), "not '62,-1'"),
        (("",), "not ''"),
        (("33.0,28",), "not '33.0,28'"),
        (("+33,28",), "not '+33,28'"),
        (("9" * 30,), "write 33,28"),
        (("33,28", "--gpus", "12"), "12 GPUs is not a multiple of the 16 GPUs"),
    ],
)
def test_wrong_splits(arguments: tuple[str, ...], said: str) -> None:
    fixed = ("plan", "deepseek-v3", "--gpu", "h200", "-tp", "8", "--pipeline-partition")
    result = run(*fixed, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize("written", ["[33, 28]", "33,28", '"33, 28"'])
def test_a_deployment_says_it_as_a_list_or_as_text(written: str, tmp_path: Path) -> None:
    file = tmp_path / "deploy.yaml"
    file.write_text(
        "deployments:\n  - name: a\n    model: deepseek-v3\n    gpu: h200\n"
        "    tensor_parallel_size: 8\n    context: 32k\n    sequences: 8\n"
        f"    pipeline_partition: {written}\n"
    )
    ((_, plan),) = kvplan.check(file).plans.values()
    assert plan.layout.partition == (33, 28)


def test_a_wrong_split_of_a_deployment_has_its_line(tmp_path: Path) -> None:
    file = tmp_path / "deploy.yaml"
    file.write_text(
        "deployments:\n  - name: a\n    model: deepseek-v3\n    gpu: h200\n"
        "    pipeline_partition: [33, x]\n"
    )
    (finding,) = kvplan.check(file).findings
    assert (finding.line, finding.exit_code) == (5, 2)


def test_no_stage_at_all_is_said() -> None:
    with pytest.raises(kvplan.UsageError, match="has no stage"):
        kvplan.plan("deepseek-v3", gpu="h200", pipeline_partition=[])
