"""`egec completion`: prints the script that a shell loads, and answers the script at each Tab."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from egec_cli.commands.root import new_app
from egec_cli.errors import UsageError
from egec_cli.output.formats import print_line

app = new_app()

_SCRIPTS = Path(__file__).parent / "shells"
# bash splits words at these beside blanks. It keeps = and : but replaces @ along with what follows.
_KEPT = ("=", ":")
_REPLACED = "@"


class Shell(StrEnum):
    """The supported shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# The script passes more arguments than users do: the words typed so far.
@app.command(
    "completion",
    epilog=(
        "egec completion bash > /etc/bash_completion.d/egec\n"
        "egec completion zsh > ~/.zfunc/_egec\n"
        "egec completion fish > ~/.config/fish/completions/egec.fish"
    ),
    context_settings={"allow_extra_args": True},
)
def completion_command(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Shell.")],
) -> None:
    """Print the shell script that completes commands, options, values and run names.

    The script asks `egec` at each Tab, so it stays valid after an update.
    """
    words = context.args
    if not words:
        print_line((_SCRIPTS / f"egec.{shell}").read_text(encoding="utf-8").rstrip("\n"))
        return
    for line in _answer_bash(*words) if shell is Shell.BASH else _answer(words):
        print_line(line)


def _answer(words: Sequence[str]) -> Iterator[str]:
    """Yield `files`, or `words` and then each candidate, with its help after a tab."""
    # Imported here, as below: printing the script needs no command.
    from egec_cli.commands import candidates

    try:
        found = candidates.find_candidates(words)
    except candidates.FileExpected:
        yield "files"
        return
    yield "words"
    yield from (f"{one.value}\t{one.help}" if one.help else one.value for one in found)


def _answer_bash(*typed: str) -> Iterator[str]:
    """Yield `files`, or `words` and then the text that bash inserts for each candidate.

    Args:
        typed: the words as typed, with quotation marks, then the part of the last word that bash replaces.

    Raises:
        UsageError: there are fewer than two words: the script did not make this call.
    """
    from egec_cli.commands.candidates import parse_word, quote_word

    if len(typed) < 2:
        raise UsageError("completion for bash needs two words", "Load the script that `egec completion bash` prints.")
    *words, replaced = typed
    last = parse_word(words[-1])
    kept = last.before
    if not last.quote:
        before = words[-1].removesuffix("" if replaced in _KEPT else replaced)
        kept = parse_word(before.removesuffix(_REPLACED)).text
    answer = _answer([*(parse_word(word).text for word in words[:-1]), last.text])
    yield next(answer)
    for line in answer:
        yield quote_word(line.partition("\t")[0].removeprefix(kept), last.quote)
