"""From a config.json to a ModelSpec: its family, layers in groups, and the model's own facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NoReturn

from kvplan.errors import RefusedError
from kvplan.hf import families
from kvplan.hf.checkpoint import Checkpoint
from kvplan.hf.config import HINT, MAX_SIZE, MAX_TOKENS, Config, Figure, Word, printable, shown
from kvplan.hf.header_weights import checkpoint_weights
from kvplan.hf.latent import CSA
from kvplan.hf.layers import Layer, Plan
from kvplan.hf.quantization import kv_cache_scheme
from kvplan.hf.schemes import DTYPE_KEYS, DTYPES
from kvplan.hf.weighing import weighed
from kvplan.kinds import kind_class
from kvplan.spec import Group, ModelSpec


class UnknownArchitectureError(RefusedError):
    """No reader for this model type: ``--assume`` may stand in for one."""


Provenance = dict[tuple[str | int, ...], str]
"""Where each figure came from, by its place in the spec: ("groups", 0, "caches", 0, "head_dim")."""

# vLLM 0.33.0 config/model.py, _get_and_verify_max_len: model_max_length goes before all others
# (Command-R), else the smallest counts (Qwen-7B).
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_target_positions",
    "max_sequence_length",
    "seq_length",
    "n_ctx",
)
_GEOMETRY_KEYS = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")

# Keys that change a cache in some family. One that the family's reader did not look at is a
# question that nobody has answered.
_CACHE_KEYS = re.compile(
    r"sliding|window|^layer_types$|^block_types$|layers_block|attn_type|attention_types?$|"
    r"attn_layer|hybrid|(^|_)kv_|_kv(_|$)|cla_share|use_cla|(^|_)mla|kv_lora|compress_ra|"
    r"^index_(head|kpool|topk)|^indexer|^linear_(attn|num|key|value|head|conv)|mamba_(d|n|num|head)_|"
    r"ssm_state|conv_(l_cache|kernel)|conv1d|attention_chunk|cross_attention_layers|full_att|"
    r"global_(att|head|num)|num_global|^swa_|sparse_att|block_configs|per_layer_config|key_value_heads|"
    r"kv_heads|multi_query|^attn_config|head_dim$|state_size|^local_|recurrent|^lru_|"
    r"attention_other|heads_per_layer|is_encoder_decoder|add_cross_attention|cross_layer|"
    r"^sparse_config|^nsa_|moba|^dsa_|yoco|num_loops|ut_steps|attention_pattern|"
    r"(skip|no)_attention|num_query_groups|^head_size$|^d_head$|cache_dtype",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"max_window_layers|mamba_dt.*|mamba_d_rank|.*sink_bias|layernorm_.*_attention_.*|"
    r"rope_local.*|local_rope.*|local_files.*|.*rope_theta|.*rope.*freq.*|local_rank|"
    r"(full|linear)_attn_(alpha|beta)_factor|num_attention_heads|qk_head_dim|mla_use_.*|window_attn.*skip|.*_loss.*",
    re.IGNORECASE,
)
_TOKEN_FIGURES = {"sliding_window", "attention_chunk_size", "encoder_tokens"}
_SAME_AS = {"num_key_value_heads", "num_kv_heads", "n_head_kv", "head_dim"}


def model_spec(
    raw: dict[str, Any],
    path: str,
    name: str,
    quantization: dict[str, Any] | None,
    assume: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[ModelSpec, Provenance]:
    """The spec that this config.json means, its weights those of ``checkpoint`` where given.

    Raises RefusedError.
    """
    top = Config(raw, path, _architecture(raw))
    assumed: tuple[str, ...] = ()
    try:
        model_type, text = _text_part(top)
        plan = families.FAMILIES[model_type](text)
        _refuse_unread(text, plan)
    except UnknownArchitectureError:
        if assume is None:
            raise
        model_type, text, plan = "", top, families.assumed(assume)(top)
        assumed = (f"--assume: every layer of {top.architecture} keeps {assume}",)
    levels = [text] if text is top else [top, text]
    beside = None
    if quantization is not None:
        beside = Config(quantization, path, top.architecture, "hf_quant_config.json: ")
    dtype, unnamed = _dtype(top, text)
    weights, said = weighed(top, text, model_type, beside)
    if checkpoint is not None:
        layers = len(plan.layers)
        weights, said = checkpoint_weights(checkpoint, levels, layers, weights, said)
    facts: dict[str, Any] = {
        "native_context_tokens": _context(text, top, model_type),
        "dtype": dtype,
        "kv_cache_dtype": _kv_cache_dtype(levels, beside, plan),
        "assumptions": (*assumed, *unnamed, *said),
    }
    return _assemble(top, name, facts, plan, weights, checkpoint.origin if checkpoint else None)


def _kv_cache_dtype(levels: list[Config], beside: Config | None, plan: Plan) -> str | None:
    scheme = kv_cache_scheme(levels, beside)
    own = plan.kv_cache_dtype
    if own is None:
        return scheme
    if scheme is not None and not scheme.startswith("fp8"):
        levels[0].refuse(f"{scheme.origin} asks for {scheme}, this family is kept as {own}")
    return Word(own, scheme.origin if scheme else "this family's own layout in vLLM 0.33.0")


def _architecture(raw: dict[str, Any]) -> str:
    names = raw.get("architectures")
    first = names[0] if isinstance(names, list) and names else raw.get("model_type")
    return printable(first) if isinstance(first, str) and first else "no architecture named"


def _text_part(top: Config) -> tuple[str, Config]:
    """The family's name and the level of the file that describes its text model."""
    classes = top.words("architectures") or []
    for name in classes[:1]:
        if name in families.ARCHITECTURES:
            return families.ARCHITECTURES[name], top
    model_type = _known(top, top.word("model_type"), classes)
    steps = families.WRAPPERS.get(model_type)
    if model_type in families.OPTIONAL_WRAPPERS and top.has("text_config"):
        steps = ("text_config",)
    if steps is None:
        return model_type, top
    text = top
    for step in steps:
        nested = text.section(step)
        if nested is None:
            text.missing(step)
        text = nested
    if model_type in families.OPTIONAL_WRAPPERS:
        _refuse_disagreement(top, text)
    inner = text.word("model_type") or families.UNNAMED_TEXT.get(model_type)
    inner = _known(text, inner, text.words("architectures") or [], nested=True)
    return inner, _with_defaults(replace(text, outer=top), inner)


def _refuse_disagreement(top: Config, text: Config) -> None:
    """Figures of a cache that stand at both levels of the file, and differ."""
    for key, value in top.raw.items():
        matters = key in _GEOMETRY_KEYS or (_CACHE_KEYS.search(key) and not _HARMLESS.match(key))
        if matters and value is not None and text.raw.get(key) != value:
            top.refuse(
                f"{key} is {shown(value)}, but {text.name(key)} is {shown(text.raw.get(key))}"
            )


def _with_defaults(text: Config, model_type: str) -> Config:
    if model_type not in families.NESTED_DEFAULTS:
        return text
    class_name, defaults = families.NESTED_DEFAULTS[model_type]
    return replace(text, defaults=defaults, defaults_source=f"{class_name} (transformers 5.23.0)")


def _known(
    config: Config, model_type: str | None, classes: Sequence[str], *, nested: bool = False
) -> str:
    """The model type where a reader exists for it and ``architectures`` says the same."""
    known = set(families.FAMILIES)
    if not nested:
        known |= set(families.WRAPPERS) | set(families.OPTIONAL_WRAPPERS)
    if model_type is None or str(model_type) not in known:
        _refuse_unknown(config, model_type)
    for name in classes[:1]:
        if not _same_model(str(model_type), name):
            config.refuse(
                f"model_type is {shown(str(model_type))}, but architectures names {shown(name)}: "
                "a model that changes another's code may change its cache"
            )
    return str(model_type)


def _refuse_unknown(config: Config, model_type: str | None) -> NoReturn:
    missing = [key for key in _GEOMETRY_KEYS if not config.has(key)]
    looked = (
        f"; looked for and not found: {', '.join(map(config.name, missing))}" if missing else ""
    )
    what = f"model_type {shown(str(model_type))}" if model_type else "no model_type"
    hint = HINT
    if not missing:
        figures = ", ".join(f"{key}: {shown(config.raw[key])}" for key in _GEOMETRY_KEYS[1:])
        hint += f"; if every layer is ordinary full attention, this file's figures are {figures}"
    problem = f"{what}: this architecture is not known{looked}"
    raise UnknownArchitectureError(f"{config.path}: {config.architecture}: {problem}", hint)


def _same_model(model_type: str, class_name: str) -> bool:
    stem = re.sub(r"(For[A-Z].*|LMHeadModel|Model)$", "", class_name)
    plain = _plain(model_type)
    names = {plain, plain.removesuffix("text"), *families.CLASS_NAMES.get(model_type, ())}
    return _plain(stem) in names | {name.removesuffix("lmhead") for name in names}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _refuse_unread(config: Config, plan: Plan) -> None:
    used = {value for layer in plan.layers for cache in layer for _, value in cache}
    for key, value in config.raw.items():
        if key in config.read or not _CACHE_KEYS.search(key) or _HARMLESS.fullmatch(key):
            continue
        if value in (None, False, 0, "", [], {}) or (key in _SAME_AS and value in used):
            continue
        config.refuse(
            f"{config.name(printable(key))} is {shown(value)}: a key that can change the cache, "
            "and one that this architecture is not known to have"
        )


def _assemble(
    top: Config,
    name: str,
    facts: dict[str, Any],
    plan: Plan,
    weights: dict[str, Any],
    weights_origin: str | None,
) -> tuple[ModelSpec, Provenance]:
    source = f"config.json of {top.architecture}, {top.path}"[:1_900]
    source += f"; weights from {weights_origin}" if weights_origin else ""
    data = {"name": name, "source": source, **facts, **_grouped(plan)}
    _refuse_absurd(top, plan)
    origins, bare = _origins(data), _bare(data)
    if weights_origin:
        origins["weights",] = weights_origin
    for key in ("groups", "draft"):
        bare[key] = tuple(_made(top, group) for group in bare.get(key, ()))
    try:
        pattern = tuple(bare.get("pattern", ()))
        return ModelSpec(**{**bare, **weights, "pattern": pattern}), origins
    except ValueError as error:
        top.refuse(str(error))


def _made(top: Config, group: dict[str, Any]) -> Group:
    """A group of the spec; figures that contradict one another are refused."""
    try:
        caches = tuple(kind_class(cache["kind"])(**cache) for cache in group["caches"])
    except ValueError as error:
        top.refuse(str(error))
    return Group(name=group.get("name"), layers=group.get("layers"), caches=caches)


def _refuse_absurd(top: Config, plan: Plan) -> None:
    """Products of two figures are checked here; what the file itself gives is checked as read."""
    for layer in {*plan.layers, *plan.draft}:
        for key, value in (item for cache in layer for item in cache):
            most = MAX_TOKENS if key in _TOKEN_FIGURES else MAX_SIZE
            if isinstance(value, int) and not isinstance(value, bool) and value > most:
                top.refuse(f"{key} would be {value:,}, more than {most:,}")


def _context(text: Config, top: Config, model_type: str) -> Figure | None:
    for config in (text, top):
        longest = config.maybe("model_max_length", most=MAX_TOKENS)
        given = [config.maybe(key, most=MAX_TOKENS) for key in _CONTEXT_KEYS]
        known = [figure for figure in given if figure is not None]
        if longest is not None or known:
            return longest if longest is not None else min(known)
    if model_type in families.CONTEXT_DEFAULTS:
        class_name, tokens = families.CONTEXT_DEFAULTS[model_type]
        return Figure(tokens, f"default of {class_name} (transformers 5.23.0)")
    return None


def _dtype(top: Config, text: Config) -> tuple[Word, tuple[str, ...]]:
    """The model's dtype, and what is to be said where it is not the file's own word.

    vLLM 0.33.0 (config/model.py:2440) serves files that say float32, or nothing, in bf16.
    """
    word = top.word(*DTYPE_KEYS) or text.word(*DTYPE_KEYS)
    if word is None or word == "auto":
        said = (
            "the config names no dtype: bf16 is taken, which is how vLLM 0.33.0 serves such files"
        )
        return Word("bf16", "none; bf16 as vLLM 0.33.0 serves it"), (said,)
    dtype = DTYPES.get(word.removeprefix("torch."))
    if dtype is None:
        top.refuse(f"{word.origin} is {shown(str(word))}, which is no dtype that is known here")
    if dtype == "fp32":
        said = "the config says float32: the cache is taken in bf16, as vLLM 0.33.0 serves it"
        return Word("bf16", f"{word.origin}; float32 is served in bf16"), (said,)
    return Word(dtype, word.origin), ()


def _grouped(plan: Plan) -> dict[str, Any]:
    """Groups with their counts where each stands in one run, else named groups and a pattern."""
    runs = [(layer, len(list(same))) for layer, same in groupby(plan.layers)]
    draft = [
        _group(layer, None, _counted(list(same), "draft layers"))
        for layer, same in groupby(plan.draft)
    ]
    extra = {"draft": draft} if draft else {}
    if len({layer for layer, _ in runs}) == len(runs):
        whole = len(runs) == 1
        return {
            "groups": [
                _group(layer, None, Figure(n, plan.layers_key if whole else "layers in one run"))
                for layer, n in runs
            ],
            **extra,
        }
    names = _names(dict.fromkeys(plan.layers))
    cycle = _smallest_cycle([names[layer] for layer in plan.layers])
    return {
        "layers": Figure(len(plan.layers), plan.layers_key),
        "pattern": _run_lengths(cycle),
        "groups": [_group(layer, name, None) for layer, name in names.items()],
        **extra,
    }


def _counted(layers: list[Layer], origin: str) -> Figure:
    return Figure(len(layers), origin)


def _group(layer: Layer, name: str | None, layers: Figure | None) -> dict[str, Any]:
    group: dict[str, Any] = {"caches": [dict(cache) for cache in layer]}
    if layers is not None:
        group["layers"] = layers
    if name is not None:
        group["name"] = name
    return group


def _names(layers: Iterable[Layer]) -> dict[Layer, str]:
    """A short name for each unlike layer."""
    short = {
        "full_attention": "full",
        "sliding_window": "sliding",
        "chunked_local": "chunked",
        "mla": "mla",
        "mamba1": "mamba",
        "mamba2": "mamba",
        "gated_delta_net": "linear",
        "kimi_delta_attention": "linear",
        "lightning_attention": "lightning",
        "short_conv": "conv",
        "cross_attention": "cross",
        "kv_shared": "shared",
        "latent_window": "window",
        "index_keys": "indexed",
    }
    names: dict[Layer, str] = {}
    for layer in layers:
        caches = [dict(cache) for cache in layer]
        # Names of arXiv 2606.19348: compressed sparse and heavily compressed attention.
        ratios = [c["compress_ratio"] for c in caches if c["kind"] == "compressed_kv"]
        kinds = dict.fromkeys(short[str(c["kind"])] for c in caches if c["kind"] in short)
        base = ("csa" if ratios[0] == CSA else "hca") if ratios else "-".join(kinds)
        names[layer] = _free(base or "none", set(names.values()))
    return names


def _free(base: str, taken: set[str]) -> str:
    if base not in taken:
        return base
    return next(name for n in range(2, 20_000) if (name := f"{base}-{n}") not in taken)


def _smallest_cycle(names: list[str]) -> list[str]:
    """The shortest run of names that gives all layers when repeated, the last one cut short.

    Prefix function of Knuth, Morris and Pratt: linear in the number of layers.
    """
    border = [0] * len(names)
    for index in range(1, len(names)):
        length = border[index - 1]
        while length and names[index] != names[length]:
            length = border[length - 1]
        border[index] = length + (names[index] == names[length])
    return names[: len(names) - border[-1]]


def _run_lengths(names: list[str]) -> list[str]:
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    return [name if n == 1 else f"{name}*{n}" for name, n in runs]


def _origins(data: Any, place: tuple[str | int, ...] = ()) -> Provenance:
    if isinstance(data, Figure | Word):
        return {place: printable(data.origin)} if data.origin else {}
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    return {at: text for key, value in items for at, text in _origins(value, (*place, key)).items()}


def _bare(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _bare(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_bare(value) for value in data]
    if isinstance(data, Figure):
        return int(data)
    return str(data) if isinstance(data, Word) else data
