"""BART and the translators and summarisers with its layers: an encoder, and a decoder beside it.

Every decoder layer keeps its own text and, once, the encoder's output (cross-attention), of at most
``max_position_embeddings`` tokens. Shapes: transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, Norms, Reader, Stack, buffer, extra, linear
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.config import MAX_TOKENS, Config, Flag, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import Style, attention, mlp, model, norms, uncounted
from kvplan.hf.geometry import Dialect
from kvplan.hf.layers import layer_count

NORMS = ("self_attn_layer_norm", "final_layer_norm")
DECODER = Style(
    dialect=Dialect(("decoder_attention_heads",), ("d_model",), (), ()),
    layers=("decoder_layers",),
    hidden=("d_model",),
    width=("decoder_ffn_dim",),
    bias=True,
    out="out_proj",
    norms=(*NORMS, "encoder_attn_layer_norm"),
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("fc1", "fc2"),
    mlp_root="",
    root="model.decoder.layers",
)
ENCODER = replace(
    DECODER,
    dialect=replace(DECODER.dialect, heads=("encoder_attention_heads",)),
    layers=("encoder_layers",),
    width=("encoder_ffn_dim",),
    norms=NORMS,
)


@dataclass(frozen=True, kw_only=True)
class Variety:
    """What a model of BART's lineage has around and in its layers.

    ``position_rows`` are rows of positions beyond the file's number, None where none are stored;
    ``positions`` are the keys of that number, the encoder's and the decoder's.
    """

    position_rows: int | None = 0
    positions: tuple[str, str] = ("max_position_embeddings", "max_position_embeddings")
    embedding_norm: bool = False
    last_norm: bool = False
    bias: Flag = True
    logits_bias: bool = True
    encoder_norms: tuple[str, ...] = NORMS
    global_heads: bool = False
    """A second set of queries, keys and values in the encoder (Longformer)."""
    uncounted_if: tuple[str, ...] = ()
    global_tokens: str = ""
    """Key of the tokens that the encoder adds to its input (Pegasus-X: 32)."""


def _bart(variety: Variety) -> Reader:
    def read(config: Config) -> Model:
        _refuse_half(config)
        heads = _heads(config, DECODER, variety)
        tokens = config.count(variety.positions[0], most=MAX_TOKENS)
        config.ignore(*_NOT_THE_DECODERS)
        crossed = replace(heads, kind="cross_attention", span=tokens, root="encoder_attn")
        count = layer_count(config, *DECODER.layers)

        def others() -> Sequence[Layer]:
            return [(mlp(config, DECODER), norms(DECODER))] * count

        return replace(
            model(config, DECODER, [(heads, crossed)] * count, others),
            stacks=lambda: (_encoder(config, variety),),
            ends=lambda: _ends(config, variety),
        )

    return read


def _refuse_half(config: Config) -> None:
    """The decoder alone is another class, without cross-attention."""
    if config.architecture.endswith("ForCausalLM") or not config.flag(
        "is_encoder_decoder", default=True
    ):
        config.refuse("the decoder alone, which has no encoder to attend to, is not known")


def _heads(config: Config, style: Style, variety: Variety) -> Attention:
    return attention(config, replace(style, bias=variety.bias))


def _encoder(config: Config, variety: Variety) -> Stack:
    config.size(*ENCODER.dialect.heads)
    heads, count = _heads(config, ENCODER, variety), layer_count(config, *ENCODER.layers)
    around = Norms(names=variety.encoder_norms, bias=True)
    layer: Layer = (heads, mlp(config, ENCODER), around)
    if variety.global_heads:
        hidden, root = config.size("d_model"), "self_attn.longformer_self_attn"
        names = ("query_global", "key_global", "value_global")
        more = (linear("attention", f"{root}.{n}", hidden, hidden, bias=True) for n in names)
        layer = (*layer, extra(*more))
    return Stack(root="model.encoder.layers", layers=(layer,) * count)


def _ends(config: Config, variety: Variety) -> Layer:
    rows = config.size("vocab_size")
    config.uncounted_if(*variety.uncounted_if)
    if config.maybe("decoder_vocab_size") not in (None, rows) or not config.flag(
        "share_encoder_decoder_embeddings", default=True
    ):
        raise UncountedError("encoder and decoder have embeddings of their own")
    halves = ("model.encoder", "model.decoder")
    blocks: list[Layer] = [(Embedding(rows=rows, name="model.shared"),)]
    if variety.position_rows is not None:
        blocks += [
            (Embedding(rows=config.size(key) + variety.position_rows, name=f"{half}.positions"),)
            for half, key in zip(halves, variety.positions, strict=True)
        ]
    if variety.global_tokens:
        tokens = config.maybe(variety.global_tokens) or 32
        blocks += [(Embedding(rows=tokens, name="model.encoder.embed_global"),)]
    names = ("layernorm_embedding",) * variety.embedding_norm + ("layer_norm",) * variety.last_norm
    norm_names = tuple(f"{half}.{name}" for half in halves for name in names)
    if variety.logits_bias:
        blocks += [(extra(buffer("lm_head", "final_logits_bias", 1, rows, dtype=None)),)]
    if not tied(config, default=True):
        raise UncountedError("tie_word_embeddings is off, which takes three embeddings apart")
    head = Head(rows=rows, tied=True)
    return (*(b for group in blocks for b in group), Norms(names=norm_names, bias=True), head)


_BART = Variety(position_rows=2, embedding_norm=True)
_PEGASUS = Variety(last_norm=True)
_LED = Variety(
    positions=("max_encoder_position_embeddings", "max_decoder_position_embeddings"),
    embedding_norm=True,
    global_heads=True,
)
_M2M = Variety(position_rows=None, last_norm=True, logits_bias=False)
_PEGASUS_X = Variety(
    position_rows=None,
    last_norm=True,
    logits_bias=False,
    bias=False,
    encoder_norms=(*NORMS, "global_self_attn_layer_norm"),
    global_tokens="num_global_tokens",
)
_NOT_THE_DECODERS = (
    *("attention_window", "num_hidden_layers", "attention_type", "block_size"),
    *("num_global_tokens", "encoder_no_repeat_ngram_size"),
)
_SEVERAL = "no count of {!r}, whose encoder and decoder have more than BART's, yet"

FAMILIES: dict[str, Family] = {
    "bart": Family(read=_bart(_BART)),
    "florence2_language": Family(read=_bart(_BART), classes=("florence2language",)),
    "plbart": Family(read=_bart(_BART)),
    "mvp": Family(read=_bart(replace(_BART, uncounted_if=("use_prompt",)))),
    "mbart": Family(read=_bart(replace(_BART, last_norm=True))),
    "pegasus": Family(read=_bart(_PEGASUS)),
    "pegasus_x": Family(read=_bart(_PEGASUS_X)),
    "bigbird_pegasus": Family(read=_bart(replace(_PEGASUS, bias=("use_bias", False)))),
    "marian": Family(read=_bart(Variety()), classes=("marianmt",)),
    "m2m_100": Family(read=_bart(_M2M)),
    "nllb-moe": Family(read=uncounted(_bart(_M2M), _SEVERAL.format("nllb-moe"))),
    "blenderbot": Family(read=_bart(_PEGASUS)),
    "blenderbot-small": Family(read=_bart(Variety(embedding_norm=True))),
    "led": Family(read=_bart(_LED)),
    "fsmt": Family(read=uncounted(_bart(Variety()), _SEVERAL.format("fsmt"))),
}

WRAPPERS: dict[str, Wrapper] = {
    "florence2": Wrapper(text="bart", beside=(Beside("vision_config", "vision tower"),)),
}
