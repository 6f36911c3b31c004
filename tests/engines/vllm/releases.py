"""The release whose rules a version in a log follows."""

from __future__ import annotations

import re

from kvplan.engines.versions import ENGINE_VERSIONS, VLLM, release_number

_NUMBER = re.compile(r"v?(\d+(?:\.\d+)+)")
_RELEASES = sorted(
    (release for row in ENGINE_VERSIONS if row.name == VLLM for release in row.releases),
    key=release_number,
)


def engine_of(version: str | None) -> str:
    """``vllm@RELEASE`` of "0.19.2rc1.dev134+g…": that release, or the last one before it.

    ``vllm`` alone, the newest, where the log names none: "0.1.dev1+g…" is of a build without tags.
    """
    match = _NUMBER.match(version or "")
    asked = release_number(match[1]) if match else ()
    if asked < (0, 9):
        return VLLM
    width = len(asked)
    before = [each for each in _RELEASES if release_number(each)[:width] <= asked]
    return f"{VLLM}@{before[-1]}"
