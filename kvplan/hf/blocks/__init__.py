"""The blocks that layers are made of."""

from __future__ import annotations
