"""action.yml run as a runner would, in folders of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "action-requirements.txt"


def requirements() -> dict[str, str]:
    """The version of each package that the action installs."""
    pinned = re.findall(r"^([a-z0-9-]+)==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return dict(pinned)


def _wheel(package: Distribution, folder: Path) -> None:
    """The installed package as the wheel that it came from; its scripts stay behind."""
    tags = re.findall(r"^Tag: (\S+)", package.read_text("WHEEL") or "", re.MULTILINE)
    columns = zip(*(tag.split("-") for tag in tags), strict=True)
    tag = "-".join(".".join(dict.fromkeys(column)) for column in columns)
    name = package.name.replace("-", "_")
    with zipfile.ZipFile(folder / f"{name}-{package.version}-{tag}.whl", "w") as wheel:
        for file in package.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                wheel.write(str(file.locate()), str(file))


def offline_action(folder: Path) -> Path:
    """The action with wheels of what is installed here in the place of an index."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    names = []
    for name in requirements():
        try:
            _wheel(distribution(name), wheels)
        except PackageNotFoundError:  # on another platform only
            continue
        names.append(name)
    lines = ["--no-index", f"--find-links {wheels.as_uri()}", *names]
    (folder / REQUIREMENTS.name).write_text("\n".join(lines) + "\n")
    for part in ("kvplan", "configs"):
        (folder / part).symlink_to(ROOT / part)
    return folder


@dataclass(frozen=True)
class Job:
    """A runner's folders and environment for one job."""

    action: Path
    temp: Path
    workspace: Path
    environment: dict[str, str]

    def install(self) -> subprocess.CompletedProcess[str]:
        """The step that installs kvplan."""
        return self._step(0, {"INTERPRETER": sys.executable, "ACTION_PATH": str(self.action)})

    def check(
        self, files: str, baseline: str = "", junit: str = "", sarif: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The step that checks."""
        return self._step(1, {"FILES": files, "BASELINE": baseline, "JUNIT": junit, "SARIF": sarif})

    def _step(self, number: int, inputs: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """One script, started as a runner starts ``shell: bash``."""
        step = [step for step in steps() if "run" in step][number]
        assert set(step["env"]) == set(inputs)
        script = self.temp / f"step{number}.sh"
        script.write_text(step["run"])
        bash = shutil.which("bash")
        assert bash is not None
        return subprocess.run(
            [bash, "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.workspace,
            env={"RUNNER_TEMP": str(self.temp), **self.environment, **inputs},
            capture_output=True,
            text=True,
            check=False,
        )

    def checked_files(self, junit: str) -> list[str]:
        """The files in a JUnit document that the check wrote."""
        document = ET.parse(self.workspace / junit)  # noqa: S314 - our own
        return [suite.attrib["name"] for suite in document.getroot()]


def steps() -> list[dict[str, Any]]:
    """The steps of action.yml."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    found: list[dict[str, Any]] = action["runs"]["steps"]
    return found
