"""Bounds of a spec's figures, which pydantic checks when a file is read.

They are plain objects with pydantic's hook, so that the rooms below can name them without
importing pydantic: the catalogue is validated by the tests, and read without it.
"""

from __future__ import annotations

from typing import Annotated, Any


class Limit:
    """Bounds for one scalar, in the words of pydantic-core; no conversion is made."""

    def __init__(self, **bounds: Any) -> None:
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The scalar's schema with these bounds (pydantic's hook for Annotated metadata)."""
        return {**handler(source), "strict": True, **self.bounds}


# No model comes near these; they keep a mistyped spec from asking for 10^18 heads.
Size = Annotated[int, Limit(gt=0, le=1_000_000)]
Tokens = Annotated[int, Limit(gt=0, le=1 << 40)]
Count = Annotated[int, Limit(gt=0, le=10**18)]
Text = Annotated[str, Limit(min_length=1, max_length=2_000)]
Flag = Annotated[bool, Limit()]
