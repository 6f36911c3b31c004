"""Every architecture that kvplan can read, by ``model_type``, in files named after lineages.

Where a rule is not in the file but in the model's class, the class stands beside it: transformers
5.24.0 unless another source is named. Next month's model is a row in its lineage's file, or a new
file here with ``FAMILIES`` and, where something stands around the text model, ``WRAPPERS``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from kvplan.hf.families.base import Family, Wrapper

_LINEAGES = [vars(import_module(f"{__name__}.{file.name}")) for file in iter_modules(__path__)]

FAMILIES: dict[str, Family] = {
    model_type: family
    for lineage in _LINEAGES
    for model_type, family in lineage.get("FAMILIES", {}).items()
}
"""How each model type of a text model is read."""

WRAPPERS: dict[str, Wrapper] = {
    model_type: wrapper
    for lineage in _LINEAGES
    for model_type, wrapper in lineage.get("WRAPPERS", {}).items()
}
"""Model types around a text model."""

ARCHITECTURES = {
    name: model_type for model_type, family in FAMILIES.items() for name in family.architectures
}
"""Classes of files whose model_type is another model's name, or stands for none."""

DRAFTS: dict[str, Family] = {
    name: family for lineage in _LINEAGES for name, family in lineage.get("DRAFTS", {}).items()
}
"""Classes that are no language model of their own, whatever model_type their files name."""
