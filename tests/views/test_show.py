"""The first screen of a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

import kvplan
from kvplan.spec import ClassDefault
from kvplan.views.show import show_report


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("a", "a: as in XConfig (transformers 5.24.0)"),
        ("abcd", "a, b, c, d: as in XConfig (transformers 5.24.0)"),
        (
            "abcdef",
            "a, b, c and 3 more: as in XConfig (transformers 5.24.0); kvplan import lists them",
        ),
    ],
)
def test_class_defaults_are_one_quiet_line_and_whole_in_json(keys: str, said: str) -> None:
    source = "XConfig (transformers 5.24.0)"
    defaults = tuple(ClassDefault(key=f"text.{key}", value=1, source=source) for key in keys)
    report = show_report(replace(kvplan.load("qwen3-8b"), class_defaults=defaults))
    assert {row[0]: row[1] for row in report.tables[0].rows}["not in the file"] == said
    assert [entry["key"] for entry in report.payload["class_defaults"]] == [
        f"text.{key}" for key in keys
    ]
    assert not report.warnings
