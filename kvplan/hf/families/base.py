"""What is known of a model type beside its layers: names, defaults, what published files do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kvplan.hf.blocks.base import Model, Reader
from kvplan.hf.config import Config
from kvplan.hf.quantization import PLAIN_FILES, Published

Tower = Callable[[Config, Config], Model]
"""A tower from its own section and the text part. Raises UncountedError."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model type. A model type that is not listed is refused, whatever its keys look like."""

    read: Reader
    classes: tuple[str, ...] = ()
    """Classes in ``architectures`` that are not the model type in capitals, without their task."""
    architectures: tuple[str, ...] = ()
    """Classes that mean this family whatever the file's model_type says."""
    saved_as: Mapping[str, Reader] = field(default_factory=dict)
    """Readers of files that transformers saved anew under another family's class, by its name."""
    context_is_stretched: bool = False
    """``max_position_embeddings`` is what linear scaling makes of it, not what it starts from."""
    published: Published = PLAIN_FILES
    sees: bool = False
    """There is a vision tower, and the text's figures stand at the top of the file."""


@dataclass(frozen=True)
class Beside:
    """What stands beside the text model under a section of its own, and is not counted."""

    section: str
    what: str
    optional: bool = False
    """Without the section there is none; else a file without it has lost it."""


@dataclass(frozen=True, kw_only=True)
class Wrapper:
    """A model type around a text model. What is around it keeps no KV cache."""

    path: tuple[str, ...] = ("text_config",)
    """Where the text model's config stands."""
    or_path: tuple[str, ...] = ()
    """Where files of another generation have it."""
    optional: bool = False
    """Some files have the text's figures at the top: the model type is a family as well."""
    text: str = ""
    """The text model's type where its config names none."""
    classes: tuple[str, ...] = ()
    tower: Tower | None = None
    beside: tuple[Beside, ...] = ()
    can_tie: bool = True
    """Whether its class ties head and embedding where the flags say so."""
    own_keys: tuple[str, ...] = ()
    """Keys around the text model that sound like a cache of it, and speak of other parts."""


def each(names: str, family: Family) -> dict[str, Family]:
    """The same for each of these model types."""
    return dict.fromkeys(names.split(), family)
