"""Holds kvplan against every decoder class of transformers.

    PYTHONPATH=. python -m tests.hf.sweep sweep|defaults|mutate [-o FILE] [--only TYPE ...]

in a Python that has transformers 5.24.0 and torch. Prints a table and writes JSON lines.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
import transformers

from tests.hf.sweep import small
from tests.hf.sweep.answer import answer, verdict
from tests.hf.sweep.changes import defaults, mutate
from tests.hf.sweep.perturb import changes_caches, perturbations
from tests.hf.sweep.truth import truth

Row = dict[str, Any]


def sweep(only: set[str]) -> Iterator[Row]:
    """Every decoder class, as made and with each perturbation."""
    for decoder in small.decoders():
        if only and decoder.model_type not in only:
            continue
        for name, changes in perturbations(decoder.config_class):
            row = _compared(decoder, name, changes)
            yield row
            unknown = row["verdict"] == "refused" and "architecture is not known" in row["why"]
            if not changes and (unknown or row["verdict"] == "invalid"):
                break


def _compared(decoder: small.Decoder, name: str, changes: dict[str, Any]) -> Row:
    row: Row = {"class": decoder.model_class, "model_type": decoder.model_type, "change": name}
    try:
        config = small.made(decoder, changes)
        raw = small.saved(config)
    except Exception as error:  # noqa: BLE001 - whatever a class raises is its answer
        return {**row, "verdict": "invalid", "why": f"{type(error).__name__}: {error}"[:200]}
    return row | judged(raw, config, caches=changes_caches(changes))


def judged(raw: Row, config: Any, *, caches: bool) -> Row:
    """The verdict on one file, with both sides' figures; ``caches`` asks for a pass."""
    got = answer(raw)
    if got.refused:
        return {"verdict": "refused", "why": got.refused, "config": raw}
    expected = truth(config, caches=caches)
    word, why = verdict(expected, got)
    figures = {
        "total": expected.total,
        "language": expected.language,
        "kept": asdict(expected.kept) if expected.kept else None,
    }
    return {"verdict": word, "why": why, "truth": figures, "config": raw}


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """What the mode that was asked for gives."""
    only = set(arguments.only)
    if arguments.mode == "mutate":
        return mutate(arguments.number, arguments.seed)
    return sweep(only) if arguments.mode == "sweep" else defaults(only)


def main() -> None:
    """Runs one mode and prints what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("sweep", "defaults", "mutate"))
    parser.add_argument("-o", "--output", default="sweep.jsonl")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=20261130)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    counts: Counter[str] = Counter()
    with open(arguments.output, "w", encoding="utf-8", buffering=1) as lines:  # noqa: PTH123
        for row in rows(arguments):
            counts[row["verdict"]] += 1
            lines.write(json.dumps(row) + "\n")
            if row["verdict"] in ("wrong", "unjudged") or arguments.only:
                line = (row["verdict"], row["model_type"], row["class"], row["change"], row["why"])
                sys.stdout.write(" | ".join(line).replace("\n", " ")[:300] + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"{dict(counts)}\n")


if __name__ == "__main__":
    main()
