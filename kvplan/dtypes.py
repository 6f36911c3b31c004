"""Which format each tensor of a cache is stored in: the options of a server, and what they leave.

Three things lie beside keys and values and have options of their own: the tails of convolutions,
recurrent states, and the keys of a sparse indexer.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.errors import RefusedError, UsageError, nearest
from kvplan.formats import FORMATS, INDEX_FORMATS, CacheFormat, cache_format
from kvplan.kinds import CacheKind, Slot
from kvplan.kinds.base import CONV, LINEAR_STATE, STATE
from kvplan.spec import ModelSpec

AUTO = "auto"
STATE_DTYPES = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "fp32": "fp32",
    "fp16": "fp16",
    "bf16": "bf16",
}
"""vLLM 0.33.0's words for its mamba cache dtypes (config/cache.py, MambaDType), and kvplan's."""

INDEX_WORDS = {"fp8": "fp8", "mxfp4": "mxfp4", "fp4": "mxfp4", "bf16": "bf16", "bfloat16": "bf16"}
"""vLLM 0.33.0's words for its indexer_kv_dtype (config/attention.py), and others for the same."""

_F16, _F32 = "f16", "f32"  # as llama.cpp alone spells them


@dataclass(frozen=True, kw_only=True)
class BesideDtypes:
    """Options for what lies beside keys and values, in vLLM's words; ``auto`` is the engine's."""

    mamba_cache_dtype: str = AUTO
    mamba_ssm_cache_dtype: str = AUTO
    index_cache_dtype: str = AUTO

    def __post_init__(self) -> None:
        for name in ("mamba_cache_dtype", "mamba_ssm_cache_dtype"):
            word = getattr(self, name)
            if word != AUTO and word not in STATE_DTYPES:
                raise UsageError(
                    f"{name} has to be auto, float32, float16 or bfloat16, not {word!r}"
                )
        word = self.index_cache_dtype.lower()
        if word not in (AUTO, *INDEX_WORDS) and not _is_llama_cpp_type(word):
            words = (AUTO, *INDEX_WORDS, "fp16", *(name for name in FORMATS if FORMATS[name].ggml))
            near = nearest(word, words, 2)
            raise UsageError(
                f"no dtype of index keys is called {self.index_cache_dtype!r}",
                f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(words)}",
            )


def _is_llama_cpp_type(word: str) -> bool:
    try:
        known = cache_format(word)
    except UsageError:
        return False
    return known.ggml or known.name == "fp16"


AS_ENGINES_DO = BesideDtypes()


@dataclass(frozen=True)
class Storage:
    """The formats of one model's caches under these options.

    ``llama_cpp`` is whether the KV dtype is one that llama.cpp alone keeps: then what lies beside
    keys and values is as there, index keys in the cache's own type (ggml-org/llama.cpp#26382) and
    recurrent states with their convolutions in fp32 (#23792).
    """

    spec: ModelSpec
    kv: CacheFormat
    beside: BesideDtypes
    llama_cpp: bool

    def slots(self, kind: CacheKind) -> tuple[Slot, ...]:
        """The kind's slots, index keys in the dtype asked for. Raises RefusedError."""
        word = INDEX_WORDS.get(self.beside.index_cache_dtype.lower())
        if word is None:
            return kind.slots()
        from kvplan.kinds.index_keys import IndexKeys

        if not isinstance(kind, IndexKeys):
            return kind.slots()
        try:
            return kind.in_dtype(word).slots()
        except ValueError as error:
            raise RefusedError(f"{error}, not in {word} (vLLM 0.33.0)") from None

    def format(self, kind: CacheKind, slot: Slot) -> CacheFormat:
        """How this tensor is stored. Raises UsageError for what the layer's kind cannot be in."""
        if slot.format is None:
            return self.kv
        if slot.role == "index_key":
            return self._of_index(kind, slot.format)
        if slot.format == CONV:
            return FORMATS[self._option("mamba_cache_dtype") or self._plain(self.spec.dtype)]
        if slot.format == LINEAR_STATE:
            return FORMATS[self._option("mamba_cache_dtype") or "fp32"]
        if slot.role == "state" and kind.state_formats:
            return FORMATS[self._of_state(kind, slot.format)]
        return FORMATS[self.spec.dtype if slot.format == "model" else slot.format]

    def _of_index(self, kind: CacheKind, stored: str) -> CacheFormat:
        word = self.beside.index_cache_dtype.lower()
        if word != AUTO and word not in INDEX_WORDS:
            return cache_format(word)
        if word == AUTO and self.llama_cpp and kind.tag() == "DSA":
            return self.kv
        return INDEX_FORMATS[stored] if stored in INDEX_FORMATS else FORMATS[stored]

    def _of_state(self, kind: CacheKind, stored: str) -> str:
        """As vLLM 0.33.0 layers/mamba/mamba_utils.py has it, _mamba_state_dtype and others.

        Its own option, else the dtype that the config names, else the convolution's option.
        """
        given = self._option("mamba_ssm_cache_dtype")
        if given is None and stored == STATE:
            given = self._option("mamba_cache_dtype") or "fp32"
        chosen = given or self._plain(stored)
        if chosen not in kind.state_formats:
            known = " or ".join(kind.state_formats)
            raise UsageError(
                f"the state of {kind.tag()} layers is kept in {known}, not in {chosen}"
            )
        return chosen

    def _option(self, name: str) -> str | None:
        return STATE_DTYPES.get(getattr(self.beside, name))

    def _plain(self, dtype: str) -> str:
        return "fp32" if self.llama_cpp else dtype


def resolved_format(spec: ModelSpec, kv_cache_dtype: str = AUTO) -> CacheFormat:
    """The format that ``kv_cache_dtype`` means for this model.

    ``auto`` is the scheme that the checkpoint names, else the model's own dtype.
    """
    if kv_cache_dtype.lower() != AUTO:
        return cache_format(kv_cache_dtype)
    named = None if spec.kv_cache_dtype == AUTO else spec.kv_cache_dtype
    return cache_format(named or spec.dtype)


def storage(
    spec: ModelSpec, kv_cache_dtype: str = AUTO, beside: BesideDtypes = AS_ENGINES_DO
) -> Storage:
    """The formats of this model's caches. Raises UsageError for a dtype that nobody knows."""
    chosen = resolved_format(spec, kv_cache_dtype)
    return Storage(spec, chosen, beside, _is_llama_cpp(kv_cache_dtype.lower(), chosen, spec))


def as_written(name: str, *, llama_cpp: bool) -> str:
    """A format's name as ``storage`` takes it for the same engine once more."""
    return {"fp16": _F16, "fp32": _F32}.get(name, name) if llama_cpp else name


def _is_llama_cpp(written: str, chosen: CacheFormat, spec: ModelSpec) -> bool:
    """Whether nobody but llama.cpp keeps keys and values like this.

    Its quantised types and its own spelling of 16 and 32 bits; and fp16 beside weights in bf16,
    which vLLM 0.33.0 refuses (config/vllm.py, _reject_mismatched_float_kv_cache).
    """
    if chosen.ggml or written in (_F16, _F32):
        return True
    return written != AUTO and chosen.name == "fp16" and spec.dtype != "fp16"
