"""How servers really lay out, page and report caches: a file or folder an engine."""

from __future__ import annotations

from kvplan.engines.base import Engine
from kvplan.engines.none import Arithmetic
from kvplan.engines.settings import ServerSettings
from kvplan.engines.versions import NONE


def engine_of(settings: ServerSettings) -> Engine:
    """The engine that is asked for, in the version asked for."""
    if settings.engine_version.name == NONE:
        return Arithmetic()
    from kvplan.engines.vllm.engine import Vllm  # start-up: most answers need no engine

    return Vllm(settings.engine_version.version)
