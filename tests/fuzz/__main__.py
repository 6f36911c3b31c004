"""Many inputs, a process for each few hundred of them, with bounds on time and memory.

    python -m tests.fuzz --inputs 20000 --seed 1
    python -m tests.fuzz --seed 1 --only 4711 --keep folder

The second runs one input again and leaves its files in a folder. A failure is printed with its
number and with the smallest of its files and arguments that still shows it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.fuzz.inputs import Input, draw_input
from tests.fuzz.shrink import shrink
from tests.fuzz.trial import Outcome, run, too_much

CHUNK = 250
_CHUNK_SECONDS = 3_600
_ADDRESS_SPACE = 1 << 30
"""What a chunk may take beyond what it has when it starts: far more than any one input may."""


def main() -> int:
    """Exit code 1 where an input failed."""
    asked = _arguments()
    if asked.only is not None:
        return _again(asked)
    if asked.chunk is not None:
        return _chunk(asked)
    failures, codes, seconds, peaks = 0, Counter[str](), [], []
    for record in _records(asked):
        kind, number, outcome = record["kind"], record["number"], Outcome(**record["outcome"])
        codes[f"{kind} {outcome.returncode}"] += 1
        codes[f"all {outcome.returncode}"] += 1
        seconds.append((outcome.seconds, number))
        peaks.append((outcome.peak_bytes, number))
        if record["problem"]:
            failures += 1
            _print(f"FAILED {number} ({kind}): {record['problem']}\n{record['smallest']}")
    _print(json.dumps(dict(sorted(codes.items())), indent=1))
    slowest = ", ".join(f"{each:.2f} s ({n})" for each, n in sorted(seconds)[-3:][::-1])
    largest = ", ".join(f"{each >> 20} MiB ({n})" for each, n in sorted(peaks)[-3:][::-1])
    _print(f"{len(seconds):,} inputs of seed {asked.seed}: {failures} failed; slowest {slowest}; ")
    _print(f"most memory beyond what the process had: {largest}")
    return 1 if failures or len(seconds) < asked.inputs else 0


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--kind", help="inputs of this kind alone, measure for one")
    parser.add_argument("--only", type=int, help="run the input of this number again")
    parser.add_argument("--keep", type=Path, help="with --only: write its files here")
    parser.add_argument("--chunk", type=int, help="run so many inputs in this process")
    return parser.parse_args()


def _records(asked: Namespace) -> Iterator[dict[str, Any]]:
    """What came of each input, from processes of a few hundred each."""
    for first in range(asked.first, asked.first + asked.inputs, CHUNK):
        count = min(CHUNK, asked.first + asked.inputs - first)
        command = [sys.executable, "-m", "tests.fuzz", "--seed", str(asked.seed)]
        command += ["--first", str(first), "--chunk", str(count)]
        command += ["--kind", asked.kind] if asked.kind else []
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_CHUNK_SECONDS
        )
        lines = done.stdout.splitlines()
        yield from map(json.loads, lines)
        if len(lines) < count:
            _print(f"FAILED {first + len(lines)}: its process ended: {done.stderr[-2_000:]}")


def _chunk(asked: Namespace) -> int:
    if asked.kind == "measure":
        import torch  # noqa: F401 - what it takes is not the input's
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    bound = pages * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    run(draw_input(asked.seed, asked.first, asked.kind))  # what is loaded once is not the input's
    for number in range(asked.first, asked.first + asked.chunk):
        tried = draw_input(asked.seed, number, asked.kind)
        outcome = run(tried)
        problem = outcome.problem or too_much(outcome)
        smallest = _shown(shrink(tried)) if problem else ""
        record = {"number": number, "kind": tried.kind, "problem": problem}
        _print(json.dumps({**record, "outcome": asdict(outcome), "smallest": smallest}))
    return 0


def _again(asked: Namespace) -> int:
    tried = draw_input(asked.seed, asked.only, asked.kind)
    if asked.keep:
        asked.keep.mkdir(parents=True, exist_ok=True)
        for name, content in tried.files.items():
            (asked.keep / name).write_bytes(content)
    outcome = run(tried)
    _print(f"{_shown(tried)}\n{outcome}")
    return 1 if outcome.problem or too_much(outcome) else 0


def _shown(tried: Input) -> str:
    files = [f"  {name}: {content[:2_000]!r}" for name, content in tried.files.items()]
    return "\n".join([f"  kvplan {' '.join(map(ascii, tried.arguments))}", *files])


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
