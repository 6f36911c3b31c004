"""What every deployment of a file has: told once, and counted as often as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks.deployments import findings, write
from tests.command_line import Run


def listed(count: int) -> str:
    return "deployments:\n" + "".join(f"  - {{name: d{index}}}\n" for index in range(count))


def test_a_problem_of_the_defaults_is_told_once_where_it_stands(run: Run, tmp_path: Path) -> None:
    text = "defaults:\n  model: gpt2\n  gpu: h100\n  sequences: many\n  expect: {fits: 3}\n"
    code, found = findings(run, write(tmp_path, text + listed(500)))
    assert code == 2
    assert [(finding["line"], finding["message"]) for finding in found] == [
        (4, "defaults.sequences: has to be a whole number, not 'many'"),
        (5, "defaults.expect.fits: has to be true or false, not 3"),
    ]


def test_unknown_keys_are_told_up_to_a_number(run: Run, tmp_path: Path) -> None:
    text = "defaults:\n" + "".join(f"  key{index}: 1\n" for index in range(100)) + listed(2)
    _, found = findings(run, write(tmp_path, text))
    assert len(found) == 31
    assert found[-1]["message"] == "and 70 more"


@pytest.mark.parametrize(
    ("defaults", "count", "problem"),
    [
        # 1 + model, gpu, expect, stated and its 400 entries of 3: 1 + 2 + 1 + 1 + 400 × 3 = 1,205
        (
            "expect: {stated: [" + "{figure: gpus, value: 1}, " * 400 + "]}",
            50,
            "defaults of 1,205 values for 50 deployments make more than 50,000",
        ),
        # 1 + 2 + 1 + 40,000
        (
            "pipeline_partition: [" + "1, " * 40_000 + "]",
            2,
            "defaults of 40,004 values for 2 deployments make more than 50,000",
        ),
        ("sequences: 1", 2_001, "2,001 deployments, more than 2,000"),
    ],
)
def test_defaults_count_in_every_deployment(
    run: Run, tmp_path: Path, defaults: str, count: int, problem: str
) -> None:
    text = f"defaults:\n  model: gpt2\n  gpu: h100\n  {defaults}\n{listed(count)}"
    code, (finding,) = findings(run, write(tmp_path, text))
    assert code == 2
    assert finding["message"].startswith(problem)
