"""SARIF 2.1.0 (OASIS, errata 01), for code scanning and merge requests outside of GitHub.

One result a finding that is not passed, at the line that decides; the rule is the kind of check.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kvplan.render.json_document import valid
from kvplan.report import Report
from kvplan.units import visible

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
VERSION = "2.1.0"

_RULES = {
    "fits": "A deployment fits its GPUs",
    "weights": "Everything in the weights is counted",
    "baseline": "No figure drifts from the baseline",
    "stated": "A figure is what a document states",
    "plan": "A deployment can be planned",
    "file": "A file of deployments can be understood",
    "min_sequences": "Enough sequences fit at once",
    "min_context": "A context is long enough",
    "max_gpus": "No more GPUs are needed",
    "max_bytes_per_token": "The cache of a token is small enough",
    "min_headroom_percent": "Enough of each GPU stays free",
}


def render(report: Report) -> str:
    """The log of one run, indented, in ASCII."""
    findings = [record for record in report.records if record["status"] != "passed"]
    rules = list(dict.fromkeys(_rule(record) for record in findings))
    run = {
        "tool": {"driver": {"name": "kvplan", "rules": [_described(rule) for rule in rules]}},
        "invocations": [_invocation(report)],
        "columnKind": "unicodeCodePoints",
        "results": [_result(record, rules) for record in findings],
    }
    log = {"$schema": SCHEMA, "version": VERSION, "runs": [run]}
    text = json.dumps(valid(log), indent=2, allow_nan=False)
    # A CI runner obeys "##[" wherever a line has it (see plain.inert); JSON can write it otherwise.
    return re.sub("#(?=#)", r"\\u0023", text) + "\n"


def _invocation(report: Report) -> dict[str, Any]:
    """That kvplan ran to its end, and of what it warned beside the findings."""
    warned = [{"level": "warning", "message": message(text)} for text in report.warnings]
    told = {"toolExecutionNotifications": warned} if warned else {}
    return {"executionSuccessful": True, "exitCode": report.exit_code, **told}


def _rule(record: Mapping[str, Any]) -> str:
    """The kind of check: ``stated kv_bytes`` is one of ``stated``."""
    return visible(record["check"].partition(" ")[0]) or "check"


def _described(rule: str) -> dict[str, Any]:
    text = _RULES.get(rule, "A check holds")
    return {
        "id": rule,
        "shortDescription": message(text),
        "defaultConfiguration": {"level": "error"},
    }


def _result(record: Mapping[str, Any], rules: list[str]) -> dict[str, Any]:
    rule = _rule(record)
    name = f"{record['deployment']}: " if record["deployment"] else ""
    location = {
        "artifactLocation": {"uri": uri(record["file"])},
        "region": {"startLine": record["line"]},
    }
    return {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "kind": "fail",
        "level": "error",
        "message": message(f"{name}{record['message']}"),
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"kvplanCheck/v1": _fingerprint(record)},
    }


def _fingerprint(record: Mapping[str, Any]) -> str:
    """The same for a deployment's check however its line and its figures move.

    Findings of a whole file are told apart by what they say.
    """
    said = record["message"] if not record["deployment"] else ""
    parts = [record["file"], record["deployment"], record["check"], said]
    text = json.dumps([valid(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def message(text: str) -> dict[str, str]:
    """Plain text in which nothing is a placeholder or a link (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    plain = visible(text).replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
    return {"text": re.sub(r"[\[\]]", r"\\\g<0>", plain)}


def uri(file: str) -> str:
    """The file as a reference from the folder of the run; an absolute one is a ``file:`` URI.

    Bytes of a name that are not UTF-8 are written as they are on the disk.
    """
    try:
        name = file.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        name = file.encode("utf-8", "surrogatepass")
    path = quote(name, safe="/")
    return f"file://{path}" if path.startswith("/") else path
