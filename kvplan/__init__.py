"""kvplan: how much memory the KV cache of a large language model takes, right to the byte.

    >>> import kvplan
    >>> model = kvplan.load("deepseek-v3")
    >>> kvplan.footprint(model, context_tokens=131_072).total_bytes
    9210691584

``load`` reads a model, ``footprint`` says what its caches take, ``compare`` puts models side by
side on a GPU. All sizes are ints of bytes; every error is a ``KvplanError``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvplan.calc import Footprint, Line, footprint
    from kvplan.comparison import Comparison, Row, compare, variants
    from kvplan.errors import KvplanError, RefusedError, SpecError, UsageError
    from kvplan.registry import catalogue, gpus, load, load_gpu
    from kvplan.spec import Gpu, ModelSpec
    from kvplan.units import parse_tokens

__version__ = "0.1.0"

_HOMES = {
    "kvplan.calc": ("Footprint", "Line", "footprint"),
    "kvplan.comparison": ("Comparison", "Row", "compare", "variants"),
    "kvplan.errors": ("KvplanError", "RefusedError", "SpecError", "UsageError"),
    "kvplan.registry": ("catalogue", "gpus", "load", "load_gpu"),
    "kvplan.spec": ("Gpu", "ModelSpec"),
    "kvplan.units": ("parse_tokens",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Comparison",
    "Footprint",
    "Gpu",
    "KvplanError",
    "Line",
    "ModelSpec",
    "RefusedError",
    "Row",
    "SpecError",
    "UsageError",
    "__version__",
    "catalogue",
    "compare",
    "footprint",
    "gpus",
    "load",
    "load_gpu",
    "parse_tokens",
    "variants",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used: importing kvplan takes milliseconds."""
        if name not in _HOME:
            raise AttributeError(f"module 'kvplan' has no attribute {name!r}")
        return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
