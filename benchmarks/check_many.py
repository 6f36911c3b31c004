"""What ``kvplan check`` of 1,000 deployments takes, as a multiple of checking one of them.

    python benchmarks/check_many.py

The deployments go through the whole catalogue, each with a layout of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import kvplan

RUNS = 5
MANY = 1_000


def _file(folder: Path, count: int) -> Path:
    names = [spec.name for spec in kvplan.catalogue()]
    lines = [
        f"  - {{name: d{index}, model: {names[index % len(names)]}, gpu: h200, "
        f"data_parallel_size: {1 + index % 4}, context: {4 + index % 60}k, sequences: 4}}"
        for index in range(count)
    ]
    path = folder / f"{count}.yaml"
    path.write_text("\n".join(["deployments:", *lines, ""]))
    return path


def _seconds(path: Path) -> float:
    command = [sys.executable, "-m", "kvplan", "check", str(path)]
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        subprocess.run(command, capture_output=True, check=False)
        times.append(perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        one, many = (_seconds(_file(Path(folder), count)) for count in (1, MANY))
    print(f"1: {one:.2f} s, {MANY:,}: {many:.2f} s, ratio {many / one:.1f}")
