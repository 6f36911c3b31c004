"""JSON that every reader takes."""

from __future__ import annotations

import json

from hypothesis import example, given

from kvplan.render.json_document import render
from tests.render.hostile import report, texts
from tests.render.runner import commands


@given(texts())
@example("\\##[error]x")
@example("###[error]x")
@example("\ud83d\ude00 \udcff")
def test_it_is_ascii_without_half_characters_and_nothing_is_lost(name: str) -> None:
    content = render(report(name))
    assert content.isascii()
    assert content.endswith("}\n")
    assert commands(content) == []
    document = json.loads(content)
    whole = name.encode("utf-8", "backslashreplace").decode()
    assert document["inputs"]["files"] == [whole]
    assert document["findings"] == {whole: whole}
    document["inputs"]["files"][0].encode("utf-8")  # no half of a surrogate pair
