"""How servers really lay out, page and report caches: a file or folder an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvplan.engines.versions import NONE

if TYPE_CHECKING:
    from kvplan.engines.base import Engine
    from kvplan.engines.settings import ServerSettings


def engine_of(settings: ServerSettings) -> Engine:
    """The engine that is asked for, in the version asked for."""
    # Imported here for start-up: reading an engine's options, as --help does, needs no engine.
    if settings.engine_version.name == NONE:
        from kvplan.engines.none import Arithmetic

        return Arithmetic()
    from kvplan.engines.vllm.engine import Vllm

    return Vllm(settings.engine_version.version)
