"""JUnit XML, read back with the standard library's parser."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import example, given

from kvplan.render.junit import render
from kvplan.units import visible
from tests.render.hostile import report, texts
from tests.render.runner import commands


@given(texts())
@example("]]>&<\"'\x00\ufffe\ud800模型")
@example("###[error]x]")
def test_it_is_what_its_declaration_says_and_nothing_is_lost(name: str) -> None:
    content = render(report(name))
    assert content.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert content.isascii()  # so that it is UTF-8 whatever a terminal's encoding
    assert commands(content) == []
    root = ET.fromstring(content.encode())  # noqa: S314 - our own
    case = root.find("testsuite/testcase")
    failure = root.find("testsuite/testcase/failure")
    assert case is not None
    assert failure is not None
    assert case.attrib["name"] == visible(name)
    assert failure.attrib["message"] == visible(name)
    assert failure.text == f"{visible(name or 'f.yaml')}:3: {visible(name)}"
