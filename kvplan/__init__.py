"""kvplan: how much memory the KV cache of a large language model takes, right to the byte.

    >>> import kvplan
    >>> model = kvplan.load("deepseek-v3")
    >>> kvplan.footprint(model, context_tokens=131_072).total_bytes
    9210691584

``load`` reads a model, ``footprint`` says what its caches take, ``compare`` puts models side by
side on a GPU. All sizes are ints of bytes; every error is a ``KvplanError``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be an import, and this module's are waited for
if TYPE_CHECKING:
    from typing import Any

    from kvplan.api import check, compare, footprint, layouts, plan, variants
    from kvplan.calc import Footprint, Line
    from kvplan.checks.findings import Finding, Findings
    from kvplan.errors import KvplanError, RefusedError, SpecError, UsageError
    from kvplan.gpu import Gpu
    from kvplan.planner.compare import Comparison, Row
    from kvplan.planner.plan import Plan
    from kvplan.registry.names import catalogue, gpus, load, load_gpu
    from kvplan.spec import ModelSpec
    from kvplan.units import parse_tokens

__version__ = "0.1.0"

_HOMES = {
    "kvplan.api": ("check", "compare", "footprint", "layouts", "plan", "variants"),
    "kvplan.calc": ("Footprint", "Line"),
    "kvplan.registry.names": ("catalogue", "gpus", "load", "load_gpu"),
    "kvplan.checks.findings": ("Finding", "Findings"),
    "kvplan.errors": ("KvplanError", "RefusedError", "SpecError", "UsageError"),
    "kvplan.planner.compare": ("Comparison", "Row"),
    "kvplan.planner.plan": ("Plan",),
    "kvplan.gpu": ("Gpu",),
    "kvplan.spec": ("ModelSpec",),
    "kvplan.units": ("parse_tokens",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Comparison",
    "Finding",
    "Findings",
    "Footprint",
    "Gpu",
    "KvplanError",
    "Line",
    "ModelSpec",
    "Plan",
    "RefusedError",
    "Row",
    "SpecError",
    "UsageError",
    "__version__",
    "catalogue",
    "check",
    "compare",
    "footprint",
    "gpus",
    "layouts",
    "load",
    "load_gpu",
    "parse_tokens",
    "plan",
    "variants",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used: importing kvplan takes milliseconds."""
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module 'kvplan' has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
