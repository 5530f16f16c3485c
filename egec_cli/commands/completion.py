"""`egec completion`: the script that a shell loads, and the answers that the script asks for at each Tab."""

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
# What bash parts a word at, beside blanks, and does not replace; @ it replaces along with what follows.
_KEPT = ("=", ":")
_REPLACED = "@"


class Shell(StrEnum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


# The script passes more arguments than its readers do: what was typed.
@app.command(
    "completion", epilog="Example: egec completion bash > egec.bash", context_settings={"allow_extra_args": True}
)
def completion_command(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print the script by which a shell completes commands, options, their values and the names of runs.

    It asks `egec` itself at each Tab, so it need not be made anew with a new release.
    """
    words = context.args
    if not words:
        print_line((_SCRIPTS / f"egec.{shell}").read_text(encoding="utf-8").rstrip("\n"))
        return
    for line in _for_bash(*words) if shell is Shell.BASH else _for_others(words):
        print_line(line)


def _for_others(words: Sequence[str]) -> Iterator[str]:
    """Yield `files`, or `words` and each candidate with its meaning behind a tab."""
    # Imported here, as below: the script itself needs no command.
    from egec_cli.commands import candidates

    try:
        found = candidates.of(words)
    except candidates.FilesWanted:
        yield "files"
        return
    yield "words"
    yield from (f"{one.value}\t{one.help}" if one.help else one.value for one in found)


def _for_bash(*typed: str) -> Iterator[str]:
    """Yield `files`, or `words` and what is to be typed for each candidate.

    Args:
        typed: the words as they were typed, with quotation marks, and once more what bash replaces of the last one.

    Raises:
        UsageError: there are fewer than two words: the script did not make this call.
    """
    from egec_cli.commands import candidates as bash_words

    if len(typed) < 2:
        raise UsageError("completion for bash needs two words", "Load the script that `egec completion bash` prints.")
    *words, replaced = typed
    begun = bash_words.read(words[-1])
    kept = begun.before
    if not begun.quote:
        before = words[-1].removesuffix("" if replaced in _KEPT else replaced)
        kept = bash_words.read(before.removesuffix(_REPLACED)).text
    answer = _for_others([*(bash_words.read(word).text for word in words[:-1]), begun.text])
    yield next(answer)
    for line in answer:
        yield bash_words.written(line.partition("\t")[0].removeprefix(kept), begun.quote)
