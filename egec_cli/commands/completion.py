"""`egec completion`: prints the script that a shell loads, and answers the script at each Tab.

The answer is the candidates for the last word of a command line, quoted by the rules of bash for bash.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from egec_cli.commands import root
from egec_cli.commands.root import LazyGroup, new_app, translate_command
from egec_cli.errors import UsageError
from egec_cli.output.formats import print_line
from egec_cli.settings.types import ENV_FILE_VARIABLE, LANGUAGES
from egec_cli.translation import Words, translate

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
    try:
        found = find_candidates(words)
    except FileExpected:
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


# In seconds: the operator is waiting at a prompt. libpq allows at least two for a connection.
_PATIENCE = 1


class Candidate(NamedTuple):
    """A possible value of the last word, and its help, which may be empty."""

    value: str
    help: str = ""


class FileExpected(Exception):
    """The last word is the name of a file."""


def find_candidates(words: Sequence[str]) -> list[Candidate]:
    """Return the possible values of the last word that begin with it.

    Args:
        words: the words after `egec`, without quotation marks; the last one may be empty.

    Raises:
        FileExpected: the last word is the name of a file.
        EgecError: a value could not be looked up.
    """
    *before, prefix = words
    position = _Position()
    for word in before:
        if not position.advance(word):
            return []
    return [one for one in position.candidates(prefix) if one.value.startswith(prefix) and one.value.isprintable()]


class _Position:
    """The place of the next word in a command line."""

    def __init__(self) -> None:
        self._command: Any = get_command(root.app)
        translate_command(self._command)
        self._context = typer.Context(self._command, info_name="egec")
        self._option: Any = None
        self._arguments: list[str] = []
        self._only_arguments = False

    def advance(self, word: str) -> bool:
        """Move past a word; return False if the word is invalid here."""
        if self._option is not None:
            self._apply(self._option, word)
            self._option = None
        elif self._only_arguments or word[:1] != "-" or word == "-":
            return self._advance_argument(word)
        elif word == "--":
            self._only_arguments = True
        else:
            self._advance_option(word)
        return True

    def candidates(self, prefix: str) -> Iterable[Candidate]:
        """Return the possible words here; those that do not begin with the prefix may be among them."""
        if self._option is not None:
            return self._values(self._option, prefix)
        if self._only_arguments or not prefix.startswith("-"):
            return self._argument_values(prefix)
        name, equals, value = prefix.partition("=")
        if equals:
            option = self._options().get(name)
            return [] if option is None else (Candidate(f"{name}={one.value}") for one in self._values(option, value))
        return [Candidate(name, option.help or "") for name, option in self._options().items()]

    def _advance_argument(self, word: str) -> bool:
        if not isinstance(self._command, TyperGroup):
            self._arguments.append(word)
            return True
        if word not in self._command.commands:
            return False
        group = self._command
        self._command = group.load_command(word) if isinstance(group, LazyGroup) else group.commands[word]
        self._context = typer.Context(self._command, info_name=word, parent=self._context)
        return True

    def _advance_option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        option = self._options().get(name)
        if option is None or option.is_flag:
            return
        if equals:
            self._apply(option, value)
        else:
            self._option = option

    def _apply(self, option: Any, value: str) -> None:
        """Apply --env-file, on which the names of runs depend."""
        if option.name == "env_file":
            os.environ[ENV_FILE_VARIABLE] = str(Path(value).expanduser())

    def _options(self) -> dict[str, Any]:
        visible = [one for one in self._command.get_params(self._context) if not one.hidden]
        return {name: one for one in visible if one.param_type_name == "option" for name in one.opts}

    def _argument_values(self, prefix: str) -> Iterable[Candidate]:
        if isinstance(self._command, TyperGroup):
            return [
                Candidate(name, str(one.help or "").partition("\n")[0]) for name, one in self._command.commands.items()
            ]
        if self._context.command_path == "egec help":
            return _help_topics(self._arguments)
        visible = [one for one in self._command.params if one.param_type_name == "argument" and not one.hidden]
        number = len(self._arguments)
        return self._values(visible[number], prefix) if number < len(visible) else []

    def _values(self, parameter: Any, prefix: str) -> Iterable[Candidate]:
        """Return the known values of an option or an argument.

        Raises:
            FileExpected: the value is the name of a file.
        """
        path = self._context.command_path.removeprefix("egec ")
        look_up = _LOOKED_UP.get((path, parameter.name)) or _LOOKED_UP.get(("", parameter.name))
        if look_up is not None:
            return map(Candidate, look_up(path, prefix))
        if any(word in (parameter.metavar or "") for word in ("FILE", translate(Words("FILE")))):
            raise FileExpected
        return [Candidate(one.value) for one in parameter.shell_complete(self._context, "")]


def _help_topics(typed: Sequence[str]) -> Iterator[Candidate]:
    """Yield what may follow these words after `egec help`: guides and commands."""
    # Imported here, as below: few completions look anything up.
    from egec_cli.guides import pages

    if not typed:
        guides = {guide.name: guide.summary for guide in pages.list_guides()}
        commands = {name: translate(Words(line)) for name, line in root.SUBCOMMANDS.items()}
        yield from (Candidate(name, line) for name, line in (commands | guides).items())
    elif len(typed) == 1 and typed[0] in root.SUBCOMMANDS:
        group: Any = get_command(root.app)
        members = getattr(group.load_command(typed[0]), "commands", {})
        yield from (Candidate(name, str(one.help or "").partition("\n")[0]) for name, one in members.items())


def _run_names(_path: str, _prefix: str) -> list[str]:
    """Return the names of all runs, the latest first, without changing the database.

    Raises:
        ConfigError: the database does not exist, or a newer version created it.
        TemporaryFailure, PermissionDenied, StorageError: it cannot be read now.
    """
    from egec_cli.settings import load
    from egec_cli.store import database
    from egec_cli.store.models import ReissueRun
    from egec_cli.store.sql import fetch_tuples

    location = load.load_settings().database
    with database.open_read_only(location, patience=_PATIENCE) as opened:
        database.require_known_migrations(database.read_applied_migrations(opened), str(location))
        return [name for (name,) in fetch_tuples(ReissueRun.select(ReissueRun.name).order_by(ReissueRun.id.desc()))]


def _field_lists(path: str, prefix: str) -> Iterator[str]:
    from egec_cli.commands.contract import CONTRACT

    before = prefix.rpartition(",")[0]
    known = dict.fromkeys(key for result in CONTRACT[path].results for key in result.keys)
    return (f"{before},{key}" if before else key for key in known if key not in before.split(","))


def _languages(_path: str, _prefix: str) -> Sequence[str]:
    return LANGUAGES


def _sort_fields(_path: str, prefix: str) -> Iterator[str]:
    from egec_cli.clients.lists import SortField

    sign = "-" if prefix.startswith("-") else ""
    return (f"{sign}{field}" for field in SortField)


def _actions(_path: str, _prefix: str) -> Iterator[str]:
    from egec_cli.audit.events import list_actions

    return list_actions()


def _outcomes(_path: str, _prefix: str) -> Sequence[str]:
    from egec_cli.audit.events import OUTCOMES

    return OUTCOMES


# By the path of the command, empty for every command, and the name of the parameter.
_LOOKED_UP: dict[tuple[str, str], Callable[[str, str], Iterable[str]]] = {
    ("", "fields"): _field_lists,
    ("", "language"): _languages,
    ("", "sort"): _sort_fields,
    ("audit list", "action"): _actions,
    ("audit list", "outcome"): _outcomes,
    ("audit list", "run"): _run_names,
    ("reissue resume", "name"): _run_names,
    ("reissue status", "name"): _run_names,
    ("reissue retry", "name"): _run_names,
    ("reissue cancel", "name"): _run_names,
}

# These have no special meaning for bash anywhere; other ASCII characters get a backslash.
_PLAIN = frozenset(filter(str.isalnum, map(chr, range(128)))) | set("_-./,@%+")
_ESCAPED_IN_DOUBLE = '$`"\\'


class TypedWord(NamedTuple):
    """A word of a bash command line, which may be incomplete.

    Attributes:
        text: the word without quoting; nothing is expanded.
        quote: the quotation mark that is still open, or empty.
        before: the text before that mark.
    """

    text: str
    quote: str
    before: str


def parse_word(raw: str) -> TypedWord:
    """Parse a word, complete or not, by the quoting rules of bash."""
    text, quote, before = "", "", ""
    characters = iter(raw)
    for character in characters:
        if character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote, before = character, text
        elif character == "\\" and quote != "'":
            after = next(characters, "")
            text += after if not quote or after in _ESCAPED_IN_DOUBLE else f"\\{after}"
        else:
            text += character
    return TypedWord(text, quote, before if quote else "")


def quote_word(text: str, quote: str = "") -> str:
    """Quote a text for bash, to be inserted after an open quotation mark or without one.

    bash adds the closing mark, unless the text ends with one.

    Args:
        text: printable, so without line ends.
        quote: `'`, `"` or nothing.
    """
    if not quote:
        return "".join(c if c in _PLAIN or not c.isascii() else f"\\{c}" for c in text)
    if quote == "'":
        inside = text.replace("'", "'\\''")
    else:
        escaped = "".join(f"\\{c}" if c in _ESCAPED_IN_DOUBLE else c for c in text)
        # Within double quotes, bash expands ! from its history even after a backslash.
        inside = escaped.replace("!", '"\\!"')
    return f"{inside}{quote}" if inside.endswith(quote) else inside
