"""``kvplan completion``: the lines that make a shell ask kvplan what may come next.

A shell hands over the words as they are typed, and takes each line of the answer as text: neither
is evaluated.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from kvplan.cli.output import write
from kvplan.cli.values import argument, one_of


class Shell(StrEnum):
    """Whose completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# The answer's first line says whether files may stand there too; each other line is a word and,
# behind a tab, what it means. In bash the words end where the cursor is ($2), = and : are words.
_SCRIPTS = {
    Shell.BASH: r"""
_kvplan() {
    local line kind=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done < <(command kvplan __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$2" 2>/dev/null)
    if [[ $kind != files ]]; then
        compopt +o default 2>/dev/null
    fi
}
complete -o default -F _kvplan kvplan
""",
    Shell.ZSH: r"""
#compdef kvplan
_kvplan() {
    local line kind
    local -a before values shown
    before=("${(@)words[2,CURRENT-1]}")
    (( CURRENT > 2 )) || before=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
        else
            values+=("${line%%$'\t'*}")
            shown+=("${line/$'\t'/  }")
        fi
    done < <(command kvplan __complete "${(@)before}" "$PREFIX" 2>/dev/null)
    (( ${#values} )) && compadd -l -d shown -a values
    [[ $kind == files ]] && _files
    return 0
}
if [[ ${funcstack[1]} == _kvplan ]]; then
    _kvplan "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _kvplan kvplan
fi
""",
    Shell.FISH: r"""
function __kvplan_complete
    set -l before (commandline -opc)
    set -e before[1]
    set -l current (commandline -ct)
    set -l lines (command kvplan __complete $before "$current" 2>/dev/null)
    if test "$lines[1]" = files
        __fish_complete_path "$current"
    end
    set -e lines[1]
    printf '%s\n' $lines
end
complete -c kvplan -f -a '(__kvplan_complete)'
""",
}


def completion(
    shell: Annotated[Shell, argument("SHELL", "bash, zsh or fish.", one_of(Shell))],
) -> None:
    """Print what makes a shell complete kvplan: bash, zsh or fish.

    The Tab key then completes commands, options, models, GPUs and dtypes.

    Examples:
        # In ~/.bashrc; the same with zsh in ~/.zshrc.
        eval "$(kvplan completion bash)"
        # In ~/.config/fish/config.fish.
        kvplan completion fish | source
    """
    write(f"{_SCRIPTS[shell].strip()}\n")
