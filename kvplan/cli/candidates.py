"""What may come next on a command line: commands, options, and the words that a value may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, get_args

from kvplan.cli.commands import summary

# What stands for a file as well, or for one alone.
_FILES = {"MODEL", "GPU", "FILE", "LOCK", "PATH", "A", "B"}

Candidates = tuple[Iterable[tuple[str, str]], bool]
"""Words with what they mean, and whether a file may stand there too."""


def answer(root: Any, words: list[str]) -> str:
    """The answer to a shell, for the words after ``kvplan``, of which the last is being typed.

    ``files`` or ``words`` on the first line, then a line a word, with its meaning behind a tab.
    """
    found, files = _candidates(root, _without_equals(words[:-1]), words[-1] if words else "")
    lines = [f"{word}\t{text}" if text else word for word, text in found]
    return "".join(f"{line}\n" for line in ["files" if files else "words", *lines])


def _without_equals(words: list[str]) -> list[str]:
    """``--gpu=h100`` as two words, as bash has it; bash's ``=`` is none."""
    split = (word.split("=", 1) if word.startswith("-") else [word] for word in words)
    return [part for parts in split for part in parts if part not in ("", "=")]


def _candidates(root: Any, typed: list[str], current: str) -> Candidates:
    if not typed:
        first = _options(root) if current.startswith("-") else _commands(root)
        return _begun(first, current), False
    command = root.commands.get(typed[0])
    return ((), False) if command is None else _of_command(root, command, typed[1:], current)


def _of_command(root: Any, command: Any, typed: list[str], current: str) -> Candidates:
    """What may come next behind the name of a command."""
    pending, position, only_arguments = _state(command, typed)
    if pending is not None:
        return _values(root, command, pending, current)
    if current.startswith("-") and not only_arguments:
        name, equals, value = current.partition("=")
        option = _by_name(command).get(name)
        if equals and option is not None:
            found, files = _values(root, command, option, value)
            return ((f"{name}={word}", text) for word, text in found), files
        return _begun(_options(command), current), False
    argument = _argument(command, position)
    return ((), False) if argument is None else _values(root, command, argument, current)


def _argument(command: Any, position: int) -> Any:
    """The argument at this position; the last one may take several words."""
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    if position < len(arguments):
        return arguments[position]
    return arguments[-1] if arguments and arguments[-1].nargs == -1 else None


def _state(command: Any, typed: list[str]) -> tuple[Any, int, bool]:
    """The option whose value comes next, how many arguments there are, and whether ``--`` was."""
    named = _by_name(command)
    pending, position, only_arguments = None, 0, False
    for word in typed:
        if pending is not None:
            pending = None
        elif word == "--" and not only_arguments:
            only_arguments = True
        elif word.startswith("-") and not only_arguments:
            option = named.get(word)
            pending = option if option is not None and not option.is_flag else None
        else:
            position += 1
    return pending, position, only_arguments


def _by_name(command: Any) -> dict[str, Any]:
    return {
        name: param
        for param in command.params
        if param.param_type_name == "option"
        for name in (*param.opts, *param.secondary_opts)
    }


def _begun(words: Iterable[tuple[str, str]], current: str) -> Iterator[tuple[str, str]]:
    return ((word, text) for word, text in words if word.lower().startswith(current.lower()))


def _commands(root: Any) -> list[tuple[str, str]]:
    return [(name, summary(command)) for name, command in root.commands.items()]


def _options(command: Any) -> list[tuple[str, str]]:
    """Every option; of one with several names the long ones."""
    options = [*_by_name(command).items(), ("--help", None)]
    return [(name, param.help if param else "Show this.") for name, param in options]


def _values(root: Any, command: Any, param: Any, current: str) -> Candidates:
    """What may stand for this option or argument."""
    metavar = param.metavar.strip("[].")
    if metavar == "COMMAND":
        return _begun(_commands(root), current), False
    words = _words(command, param, metavar, current)
    return _begun(((word, "") for word in words), current), metavar in _FILES


def _words(command: Any, param: Any, metavar: str, current: str) -> Iterable[str]:
    annotation = command.callback.__annotations__[param.name]
    own = get_args(annotation)[0]
    for word_type in (own, *get_args(own)):  # X, or X | None
        if isinstance(word_type, type) and issubclass(word_type, StrEnum):
            return list(word_type)
    if metavar in _SOURCES:
        return _SOURCES[metavar](current)
    return _VALUES[param.name]() if param.name in _VALUES else ()


def _models(current: str) -> Iterable[str]:
    """Names of the catalogue, and with a / in what is typed Hugging Face ids."""
    from kvplan.registry.names import model_aliases, model_files

    if "/" not in current:
        return model_files()
    ids = {alias for aliases in model_aliases().values() for alias in aliases if "/" in alias}
    return sorted(ids, key=str.lower)


def _gpus(_current: str) -> Iterable[str]:
    from kvplan.registry.names import gpu_entries

    return [names[0] for names in gpu_entries()]


def _kv_dtypes() -> Iterable[str]:
    from kvplan.formats import FORMATS

    return ["auto", *FORMATS]


def _index_dtypes() -> Iterable[str]:
    from kvplan.dtypes import INDEX_WORDS

    return ["auto", *INDEX_WORDS]


def _state_dtypes() -> Iterable[str]:
    from kvplan.dtypes import STATE_DTYPES

    return STATE_DTYPES


def _dtypes() -> Iterable[str]:
    from kvplan.planner.served import DTYPES

    return DTYPES


def _quantizations() -> Iterable[str]:
    from kvplan.planner.quantizers import QUANTIZERS

    return QUANTIZERS


def _engines() -> Iterable[str]:
    from kvplan.engines.versions import ENGINE_VERSIONS

    return dict.fromkeys(name for row in ENGINE_VERSIONS for name in (row.name, *row.full_names))


def _backends() -> Iterable[str]:
    from kvplan.engines.vllm.backend_names import AUTO, BACKENDS

    return [AUTO, *BACKENDS]


_SOURCES: dict[str, Callable[[str], Iterable[str]]] = {
    "MODEL": _models,
    "A": _models,
    "B": _models,
    "GPU": _gpus,
}
_VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "dtype": _dtypes,
    "quantization": _quantizations,
    "kv_cache_dtype": _kv_dtypes,
    "draft_kv_cache_dtype": _kv_dtypes,
    "index_cache_dtype": _index_dtypes,
    "mamba_cache_dtype": _state_dtypes,
    "mamba_ssm_cache_dtype": _state_dtypes,
    "engine": _engines,
    "attention_backend": _backends,
}
