"""Writes tests/hf/swept.jsonl from what the sweep gave: small configs and transformers' figures.

    PYTHONPATH=. python -m tests.hf.sweep.expectations SWEEP.jsonl

Only classes that kvplan reads, each as made and with a few of its perturbations; of a config only
what says something of its shape.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hf.sweep.elements import Kept
from tests.hf.sweep.perturb import LEFT_ALONE

FILE = Path(__file__).parents[1] / "swept.jsonl"
MOST = 4
"""Changes of one class beside the class as it is made."""

Row = dict[str, Any]
_SILENT = re.compile(
    r".*_act|.*activation.*|.*(_eps|epsilon)|id2label|label2id|transformers_version|rope_.*|.*_std|"
    r".*_token_.*|.*(softcapping|multiplier|scale|scaling|scaling_factor|scalar|coef|theta|clip)|"
    r"pretraining_tp|initializer.*|.*attn_pdrop|.*_pdrop|ep_size|problem_type|tasks|_name_or_path"
)


def bare(data: Any) -> Any:
    """The config without what no figure can rest on."""
    if not isinstance(data, dict):
        return data
    return {
        key: bare(value)
        for key, value in data.items()
        if not (LEFT_ALONE.fullmatch(key) or _SILENT.fullmatch(key) or isinstance(value, float))
    }


def lines(rows: list[Row]) -> Iterator[Row]:
    """One line for each change that is kept: those of the first keys, and of flags."""
    taken: dict[str, int] = {}
    for row in rows:
        figures = row.get("truth") or {}
        if row["verdict"] != "right" or not figures.get("total"):
            continue
        number = taken.setdefault(row["class"], 0)
        changed = row["change"] != "as made"
        if changed and (number >= MOST or row["change"].startswith(("vocab", "interm", "num_hid"))):
            continue
        taken[row["class"]] += changed
        line: Row = {"model": f"{row['class']}, {row['change']}", "config": bare(row["config"])}
        # A reason beside a right answer says what is not counted: a tower as a rule.
        whole = "language" if row["why"] else "total"
        line |= {whole: figures[whole]} if figures[whole] else {}
        kept = Kept(**figures["kept"]) if figures["kept"] else None
        if kept is not None:
            line["bytes_per_token"], line["fixed_bytes"] = kept.bytes_per_token, kept.fixed_bytes
            line |= {"index_elements": kept.index} if kept.index else {}
        yield line


def main() -> None:
    """Writes the file."""
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    written = (json.dumps(line, separators=(",", ":")) + "\n" for line in lines(rows))
    FILE.write_text("".join(written), encoding="utf-8")


if __name__ == "__main__":
    main()
