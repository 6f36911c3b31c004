"""What stands at both ends of the layers: the embedding, the last norm and the head."""

from __future__ import annotations

from collections.abc import Sequence

from kvplan.hf.config import Config, Figure, shown
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters.blocks import Tensors


def embedding(rows: int, hidden: int, name: str = "model.embed_tokens") -> Tensors:
    """The input embedding, or learned positions."""
    return (b.Tensor("embedding", name, (rows, hidden)),)


def head(rows: int, hidden: int, *, bias: bool = False, name: str = "lm_head") -> Tensors:
    """The output head where it is not the embedding itself."""
    return b.linear("lm_head", name, rows, hidden, bias=bias)


def tied(config: Config, default: bool | None, *others: str) -> bool:
    """Whether head and embedding are one. Levels that disagree cannot be settled here.

    transformers 5 asks the outer config, earlier releases the nested one.
    """
    levels = [config] if config.outer is None else [config, config.outer]
    found = {
        level.expect(key, level.raw[key], bool, "true or false")
        for level in levels
        for key in ("tie_word_embeddings", *others)
        if level.has(key)
    }
    for level in levels:
        level.ignore("tie_word_embeddings", *others)
    if len(found) > 1:
        raise b.UncountedError("tie_word_embeddings differs between the levels of the file")
    if found:
        return found.pop()
    if default is None:
        b.uncounted(config, "tie_word_embeddings")
    _refuse_unsettled(config, default)
    return default


_OUTER_DEFAULTS = {
    # Config class of the wrapper in transformers 5.23.0.
    **dict.fromkeys(
        [
            "aya_vision",
            "cohere2_vision",
            "deepseek_vl",
            "ernie4_5_vl_moe",
            "gemma3",
            "gemma3n",
            "gemma4",
            "got_ocr2",
            "granite_speech",
            "internvl",
            "kimi_k25",
            "lfm2_vl",
            "mistral3",
            "paligemma",
        ],
        True,
    ),
    **dict.fromkeys(
        [
            "aria",
            "glm46v",
            "glm4v",
            "glm4v_moe",
            "idefics3",
            "llama4",
            "llava",
            "llava_next",
            "llava_next_video",
            "llava_onevision",
            "minimax_m3_vl",
            "qwen2_5_vl",
            "qwen2_vl",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen3_vl",
            "qwen3_vl_moe",
            "smolvlm",
            "vipllava",
        ],
        False,
    ),
}


def _refuse_unsettled(config: Config, default: bool) -> None:
    if config.outer is None:
        return
    outer = config.outer.raw.get("model_type")
    named = outer if isinstance(outer, str) else ""
    if _OUTER_DEFAULTS.get(named, default) != default:
        raise b.UncountedError(
            f"no tie_word_embeddings in the file, and the classes of {shown(named)} and of its "
            "text part disagree (transformers 5.23.0)"
        )


def ends(
    config: Config,
    hidden: int,
    *,
    tie: bool,
    final: str = "model.norm",
    bias: bool = False,
    names: Sequence[str] = ("model.embed_tokens", "lm_head"),
    vocab: Figure | int | None = None,
) -> Tensors:
    """Embedding, last norm (none where it has no name) and, untied, the head."""
    rows = int(vocab) if vocab is not None else b.size(config, "vocab_size")
    last = b.norm(final, hidden, bias=bias) if final else ()
    own = () if tie else head(rows, hidden, name=names[1])
    return (*embedding(rows, hidden, names[0]), *last, *own)
