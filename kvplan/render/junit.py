"""JUnit XML, as both of its common schemas have it.

Valid under ``JUnit.xsd`` (windyroad/JUnit-Schema, after Ant's formatter) and ``junit-10.xsd``
(jenkinsci/xunit-plugin): a suite a file, a case a check, where it stands in the failure's text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from xml.etree import ElementTree as ET

from kvplan.report import Report
from kvplan.units import visible

_ELEMENTS = {"failed": "failure", "error": "error"}


def render(report: Report) -> str:
    """The whole document, in ASCII. Nothing is timed: a check is arithmetic."""
    root = ET.Element("testsuites")
    files = groupby(report.records, key=lambda record: str(record["file"]))
    for number, (file, records) in enumerate(files):
        root.append(_suite(number, file, list(records)))
    ET.indent(root)
    text = ET.tostring(root, encoding="us-ascii", xml_declaration=False).decode()
    # A CI runner obeys "##[" wherever a line has it (see plain.inert); XML can write it otherwise.
    text = re.sub("#(?=#)", "&#35;", text)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(number: int, file: str, records: Sequence[Mapping[str, Any]]) -> ET.Element:
    statuses = [record["status"] for record in records]
    suite = ET.Element(
        "testsuite",
        {
            "name": visible(file),
            "package": "kvplan",
            "id": str(number),
            "hostname": "localhost",  # what the schema asks for where the host does not matter
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "time": "0",
            "tests": str(len(statuses)),
            "failures": str(statuses.count("failed")),
            "errors": str(statuses.count("error")),
        },
    )
    ET.SubElement(suite, "properties")
    for record in records:
        suite.append(_case(record))
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    return suite


def _case(record: Mapping[str, Any]) -> ET.Element:
    name, owner = visible(record["check"]), visible(record["deployment"] or record["file"])
    case = ET.Element("testcase", {"name": name, "classname": owner, "time": "0"})
    element = _ELEMENTS.get(record["status"])
    if element is not None:
        message = visible(record["message"])
        told = ET.SubElement(case, element, {"message": message, "type": f"kvplan.{element}"})
        told.text = f"{visible(record['file'])}:{record['line']}: {message}"
    return case
