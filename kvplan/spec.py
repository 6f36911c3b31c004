"""What a model is: its layers by what they keep, and its weights; frozen and strict."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Literal

from kvplan.errors import UsageError
from kvplan.formats import cache_format
from kvplan.groups import MAX_LAYERS, Group, group_from, with_cache_lists
from kvplan.kinds import KINDS, CacheKind, kind_class
from kvplan.limits import Count, Flag, Input, Limit, Text, Tokens
from kvplan.stored import LoraWidths, Parameters, StoredWeights

MOST_GROUPS, MOST_CACHES, MOST_ROWS = 256, 16, 1_000
"""Different layers of a model, caches of one layer, rows of weights: no model comes near these."""
_ROW_OF_SCALES = 10_000  # elements: no row of an expert is as long

LayerCount = Annotated[int, Limit(gt=0, le=MAX_LAYERS)]

_Counts = tuple[tuple[CacheKind, int, int], ...]
"""Different caches, each with its layers and its number of copies over all of them."""

_TEXT_LISTS = ("aliases", "assumptions", "not_counted", "pattern")
_REPEAT = re.compile(r"(.+?)\s*\*\s*([1-9][0-9]{0,4})")


@dataclass(frozen=True, kw_only=True)
class ClassDefault(Input):
    """A key that a config.json does not have, and what its class takes for it."""

    key: Text
    value: bool | int | float | str | tuple[bool | int | float | str, ...]
    source: Text
    """Class and release: "LlamaConfig (transformers 5.24.0)"."""

    def __str__(self) -> str:
        import json  # start-up: no model of the catalogue has these

        value = json.dumps(self.value)
        return f"{self.key} is not in the file: {value}, the default of {self.source}"


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Input):
    """One model: its layers by what they cache, and the facts that sizing needs.

    Layers are groups with a count each, or named groups and a ``pattern`` of their names that is
    repeated over ``layers`` layers (``[local*5, global]``).
    """

    name: Text
    source: Text
    architecture: Text | None = None
    """The first of config.json's ``architectures``: engines choose their model class by it."""
    aliases: tuple[Text, ...] = ()
    notes: Text | None = None
    assumptions: tuple[Text, ...] = ()
    """What is not the source's own word: every answer that rests on it says so."""
    class_defaults: tuple[ClassDefault, ...] = field(default=(), compare=False)
    """Defaults that figures of an imported config.json rest on."""
    name_note: Text | None = field(default=None, compare=False)
    """How the name that was asked for was read, where it is none of its own: answers say so."""
    native_context_tokens: Tokens | None
    max_position_embeddings: Tokens | None = None
    """What the file states where YaRN makes the native context longer: engines go by it."""
    original_max_position_embeddings: Tokens | None = None
    """The length before LongRoPE, at which vLLM serves a model where no other is asked for."""
    dtype: Literal["bf16", "fp16", "fp32"]
    kv_cache_dtype: Text | None = None
    """The KV scheme that the checkpoint itself names; None where ``auto`` is the model's dtype."""
    kv_cache_dtype_beside: Flag = False
    """Whether hf_quant_config.json alone does, beside a config.json that names a quantization."""
    parameters: Parameters | None = None
    weights: tuple[StoredWeights, ...] = ()
    routed_experts: Annotated[int, Limit(gt=0, le=1_000_000)] | None = None
    """Routed experts of a layer, for expert parallelism: a GPU holds whole ones."""
    expert_intermediate_size: Count | None = None
    """Width of one routed expert, which slices of experts over GPUs have to divide."""
    vocab_size: Count | None = None
    """Rows of the vocabulary as the config names them, which are those of the logits."""
    hidden_size: Count | None = None
    """Width of what passes from layer to layer."""
    lora: tuple[LoraWidths, ...] = ()
    """What an adapter adds to each part; empty where the shapes of its matrices are not known."""
    not_counted: tuple[Text, ...] = ()
    """Parts of the model that are in neither ``parameters`` nor ``weights``."""
    layers: LayerCount | None = None
    pattern: tuple[Text, ...] = ()
    groups: tuple[Group, ...]
    draft: tuple[Group, ...] = ()
    """Layers of the multi-token-prediction head: cached only where a draft model is served."""
    draft_weights: tuple[StoredWeights, ...] = ()
    """Weights of the draft layers, without copies of the model's own embedding and head."""

    @classmethod
    def prepared(cls, data: Any) -> Any:
        return with_cache_lists(data)

    @classmethod
    def parts(cls) -> dict[str, type[Any]]:
        kinds = {name: kind_class(name) for name in KINDS}
        weights = dict.fromkeys(("weights", "draft_weights"), StoredWeights)
        widths = {"lora": LoraWidths}
        groups = dict.fromkeys(("groups", "draft"), Group)
        return {"parameters": Parameters, **weights, **widths, **groups, **kinds}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> ModelSpec:
        """The spec in data that is known to be valid: the catalogue's own."""
        known = with_cache_lists(data)
        return cls(
            **{
                **known,
                **{key: tuple(known.get(key, ())) for key in _TEXT_LISTS},
                "parameters": Parameters(**known["parameters"]),
                "weights": tuple(StoredWeights(**row) for row in known["weights"]),
                "lora": tuple(LoraWidths(**row) for row in known.get("lora", ())),
                "draft_weights": tuple(
                    StoredWeights(**row) for row in known.get("draft_weights", ())
                ),
                "groups": tuple(group_from(group) for group in known["groups"]),
                "draft": tuple(group_from(group) for group in known.get("draft", ())),
            }
        )

    def __post_init__(self) -> None:
        self._check_lengths()
        if self.kv_cache_dtype not in (None, "auto"):
            try:
                cache_format(str(self.kv_cache_dtype))
            except UsageError as error:
                raise ValueError(f"kv_cache_dtype: {error.message}; {error.hint}") from None
        if any(group.layers is None for group in self.draft):
            raise ValueError("every draft group needs its number of layers")
        if self.draft_weights and not self.draft:
            raise ValueError("draft_weights need draft: the layers that they are of")
        if self.pattern:
            self._check_pattern()
            return
        if any(group.layers is None for group in self.groups):
            raise ValueError("every group needs its number of layers, or the spec a pattern")
        counted = sum(group.layers or 0 for group in self.groups)
        if self.layers not in (None, counted):
            raise ValueError(f"layers is {self.layers}, but the groups have {counted}")

    def _check_lengths(self) -> None:
        if not self.groups:
            raise ValueError("groups is empty: name at least one group of layers")
        lengths = {
            "groups": (len(self.groups) + len(self.draft), MOST_GROUPS),
            "caches": (max(len(group.caches) for group in self.groups + self.draft), MOST_CACHES),
            "weights": (len(self.weights) + len(self.draft_weights), MOST_ROWS),
            "lora": (len(self.lora), MOST_ROWS),
        }
        for name, (length, most) in lengths.items():
            if length > most:
                raise ValueError(f"{name}: {length:,} of them, more than {most:,}")

    def _check_pattern(self) -> None:
        if self.layers is None:
            raise ValueError("a pattern needs layers: how many it is repeated over")
        if any(group.layers is not None for group in self.groups):
            raise ValueError("with a pattern, groups carry names and no layer counts")
        names = [group.name for group in self.groups]
        if None in names or len(set(names)) != len(names):
            raise ValueError("with a pattern, every group needs a name of its own")
        unknown = {name for name in self._cycle() if name not in names}
        if unknown:
            raise ValueError(f"the pattern names no such group: {', '.join(sorted(unknown))}")
        unused = set(names) - set(self.layer_names())
        if unused:
            raise ValueError(
                f"the pattern never reaches: {', '.join(map(str, sorted(unused, key=str)))}"
            )

    def _cycle(self) -> list[str]:
        names: list[str] = []
        for item in self.pattern:
            match = _REPEAT.fullmatch(item)
            name, times = match.groups() if match else (item, "1")
            names += [name] * int(times)
            if len(names) > MAX_LAYERS:
                raise ValueError(f"the pattern names more than {MAX_LAYERS} layers")
        return names

    def layer_names(self) -> tuple[str, ...]:
        """The group of every layer in order, where the spec has a pattern."""
        cycle = self._cycle()
        return tuple(cycle[index % len(cycle)] for index in range(self.total_layers))

    @cached_property
    def total_layers(self) -> int:
        """Layers of the main model, those that cache nothing included."""
        return self.layers or sum(group.layers or 0 for group in self.groups)

    def layer_groups(self, *, draft: bool = False) -> tuple[tuple[Group, int], ...]:
        """Each group and the number of its layers; draft layers too where asked for."""
        groups = tuple((group, group.layers or 0) for group in self.groups)
        if self.pattern:
            count = Counter(self.layer_names())
            groups = tuple((group, count[str(group.name)]) for group in self.groups)
        extra = tuple((group, group.layers or 0) for group in self.draft) if draft else ()
        return groups + extra

    def stage_layers(self, pipeline: int, partition: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Layers of each of so many pipeline stages: those of ``partition``, else even ones.

        Layers that do not divide go one each to the stages before the last, from the back, as in
        vLLM 0.33.0 distributed/utils.py get_pp_indices, whose VLLM_PP_LAYER_PARTITION is
        ``partition``. Raises ValueError for more stages than layers, or other layers than these.
        """
        if pipeline > self.total_layers:
            raise ValueError(f"{self.total_layers} layers cannot make {pipeline} stages")
        if partition:
            if len(partition) != pipeline or sum(partition) != self.total_layers:
                raise ValueError(f"{partition} are not {pipeline} stages of {self.total_layers}")
            return partition
        sizes = [self.total_layers // pipeline] * pipeline
        for index in range(self.total_layers % pipeline):
            sizes[-2 - index] += 1
        return tuple(sizes)

    def stages(self, pipeline: int, partition: tuple[int, ...] = ()) -> tuple[ModelSpec, ...]:
        """The model cut in ``stage_layers`` of consecutive layers; draft layers are in the last.

        Stages of the same layers are one object. Raises ValueError as ``stage_layers`` does.
        """
        sizes = self.stage_layers(pipeline, partition)
        if sizes not in self._cuts:
            self._cuts[sizes] = tuple(self._cut(sizes))
        return self._cuts[sizes]

    @cached_property
    def _cuts(self) -> dict[tuple[int, ...], tuple[ModelSpec, ...]]:
        """Stages by their layers, of which a search asks for the same again and again."""
        return {}

    def _cut(self, sizes: tuple[int, ...]) -> Iterator[ModelSpec]:
        layers, stages = iter(self.layer_order()), dict[Any, ModelSpec]()
        for index, size in enumerate(sizes, 1):
            counts = tuple(sorted(Counter(islice(layers, size)).items()))
            key = counts, index == len(sizes)
            if key not in stages:
                stages[key] = self._only(counts, last=index == len(sizes))
            yield stages[key]

    def layer_order(self) -> tuple[int, ...]:
        """For every layer in order, the index of its group."""
        if self.pattern:
            index = {group.name: i for i, group in enumerate(self.groups)}
            return tuple(index[name] for name in self.layer_names())
        return tuple(i for i, group in enumerate(self.groups) for _ in range(group.layers or 0))

    def _only(self, counts: tuple[tuple[int, int], ...], *, last: bool) -> ModelSpec:
        """The model with so many layers of each group, by the group's index."""
        groups = tuple(
            Group(name=self.groups[index].name, layers=layers, caches=self.groups[index].caches)
            for index, layers in counts
        )
        count = sum(layers for _, layers in counts)
        no_draft: dict[str, Any] = {} if last else {"draft": (), "draft_weights": ()}
        return replace(self, groups=groups, pattern=(), layers=count, **no_draft)

    def caches(self, *, draft: bool = False, context_tokens: int = 0) -> _Counts:
        """Every different cache with its layers and its number of copies over all of them.

        The two numbers differ where a layer keeps the same cache twice (LongCat-Flash). A window
        that no sequence outgrows, of the native context or of ``context_tokens`` where these are
        more, is full attention.
        """
        return self._count_caches(self.longest_tokens(context_tokens), draft=draft)

    def caches_as_written(self, *, draft: bool = False) -> _Counts:
        """As ``caches``, with every window as one, whatever the context is."""
        return self._count_caches(None, draft=draft)

    def longest_tokens(self, context_tokens: int = 0) -> int | None:
        """The native context, or the one asked for where that is longer; None where not bounded."""
        native = self.native_context_tokens
        return None if native is None else max(native, context_tokens)

    def _count_caches(self, longest_tokens: int | None, *, draft: bool) -> _Counts:
        if longest_tokens not in (None, self.native_context_tokens):
            return self._count(longest_tokens, draft=draft)
        if (longest_tokens, draft) not in self._counted:
            self._counted[longest_tokens, draft] = self._count(longest_tokens, draft=draft)
        return self._counted[longest_tokens, draft]

    @cached_property
    def _counted(self) -> dict[tuple[int | None, bool], _Counts]:
        """Caches as written, and at the native context, which a search asks for all the time."""
        return {}

    def _count(self, longest_tokens: int | None, *, draft: bool) -> _Counts:
        layers: Counter[CacheKind] = Counter()
        copies: Counter[CacheKind] = Counter()
        for group, count in self._groups_with_draft if draft else self._groups:
            kinds = [cache.bounded_by(longest_tokens) for cache in group.caches]
            for kind in dict.fromkeys(kinds):
                layers[kind] += count
                copies[kind] += count * kinds.count(kind)
        return tuple((kind, layers[kind], copies[kind]) for kind in layers)

    @cached_property
    def _groups(self) -> tuple[tuple[Group, int], ...]:
        return self.layer_groups()

    @cached_property
    def _groups_with_draft(self) -> tuple[tuple[Group, int], ...]:
        return self.layer_groups(draft=True)

    @cached_property
    def loaded_bytes(self) -> dict[str, int]:
        """Bytes that engines load, by part; ``all`` where the rows name none."""
        return _bytes_by_part(self.weights)

    @cached_property
    def loaded_draft_bytes(self) -> dict[str, int]:
        """The same of the draft (MTP) layers."""
        return _bytes_by_part(self.draft_weights)

    @property
    def attention(self) -> tuple[str, ...]:
        """Short names of what the layers keep, each once in their order: ``("GQA", "SWA")``."""
        return self.attention_at(0)

    def attention_at(self, context_tokens: int) -> tuple[str, ...]:
        """The same at a context that may be longer than the native one."""
        kinds = (kind for kind, _, _ in self.caches(context_tokens=context_tokens))
        return tuple(
            dict.fromkeys(kind.tag() for kind in kinds if kind.slots() and kind.is_attention)
        )

    @property
    def cached_layers(self) -> int:
        """Layers that keep a cache of their own."""
        return sum(
            count
            for group, count in self.layer_groups()
            if any(cache.slots() for cache in group.caches)
        )

    @property
    def expert_block(self) -> int:
        """Rows and columns of an expert under one scale, which slices must not cut: 128 or 1.

        fp8 in blocks of 128 × 128 (DeepSeek-V3) has a scale for up to 16,384 elements, scales a
        row or column have fewer, and of 4-bit groups engines pad the last.
        """
        rows = [row for row in self.weights if row.part == "routed_experts"]
        scales = sum(row.elements for row in rows if row.what == "scales")
        elements = sum(row.elements for row in rows if row.what is None and row.dtype == "fp8")
        return 128 if scales and elements // scales > _ROW_OF_SCALES else 1

    @property
    def has_routed_experts(self) -> bool:
        """Whether the weights name routed experts, for GPUs to share."""
        return any(row.part == "routed_experts" for row in self.weights)

    @property
    def weights_bytes(self) -> int | None:
        """Bytes of the published checkpoint without draft layers; None where not known."""
        return sum(row.size_bytes for row in self.weights) or None


def _bytes_by_part(rows: tuple[StoredWeights, ...]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for row in rows:
        if row.is_loaded:
            sizes[row.part or "all"] += row.size_bytes
    return dict(sizes)
