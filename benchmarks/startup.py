"""Start-up of ``kvplan compare`` over that of its four packages alone, interleaved in one run.

    python benchmarks/startup.py [PAIRS]

Prints both medians and their ratio. Every process is fresh; the pairs alternate, so that what
else the machine does falls on both alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

IMPORTS = [sys.executable, "-c", "import typer, rich, pydantic, yaml"]
COMPARE = [
    str(Path(sys.executable).with_name("kvplan")),
    "compare",
    "llama3-70b",
    "deepseek-v3",
    "--ctx",
    "128k",
]


def seconds(command: list[str]) -> float:
    """Wall time of one run of the command; its output is thrown away."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main(pairs: int) -> None:
    """Measure so many pairs after one unmeasured one, and print medians and their ratio."""
    seconds(IMPORTS), seconds(COMPARE)
    timed = [(seconds(IMPORTS), seconds(COMPARE)) for _ in range(pairs)]
    imports, compare = (statistics.median(column) for column in zip(*timed, strict=True))
    print(f"imports alone   {1000 * imports:7.1f} ms")
    print(f"kvplan compare  {1000 * compare:7.1f} ms")
    print(f"ratio           {compare / imports:7.3f}  (median of {pairs} pairs)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
