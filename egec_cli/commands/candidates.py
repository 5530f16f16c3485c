"""Words of a bash command line: read as bash reads them, and written so that bash takes nothing in them for its own."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from string import ascii_letters, digits
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from egec_cli.commands import root
from egec_cli.commands.root import LazyGroup, in_operators_language
from egec_cli.settings.schema import ENV_FILE_VARIABLE, LANGUAGES
from egec_cli.translation import Words, translate

# What means nothing to bash, wherever it stands; all else of ASCII gets a backslash.
_PLAIN = frozenset(ascii_letters + digits + "_-./,@%+")
_ESCAPED_IN_DOUBLE = '$`"\\'


class Typed(NamedTuple):
    """A word that may not be complete yet.

    Attributes:
        text: what bash makes of it; nothing is expanded.
        quote: the quotation mark that is still open; empty where none is.
        before: what bash makes of the part before that mark.
    """

    text: str
    quote: str
    before: str


def read(raw: str) -> Typed:
    """Return what was typed, a whole word or the beginning of one."""
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
    return Typed(text, quote, before if quote else "")


def written(text: str, quote: str = "") -> str:
    """Return a text as it is to be typed behind an open quotation mark, or behind none.

    Bash closes the mark by itself, unless what was typed ends with one.

    Args:
        text: printable, so without a line's end.
        quote: `'`, `"` or nothing.
    """
    if not quote:
        return "".join(c if c in _PLAIN or not c.isascii() else f"\\{c}" for c in text)
    if quote == "'":
        inside = text.replace("'", "'\\''")
    else:
        escaped = "".join(f"\\{c}" if c in _ESCAPED_IN_DOUBLE else c for c in text)
        # Between the marks, bash would look it up in its history, whatever stands before it.
        inside = escaped.replace("!", '"\\!"')
    return f"{inside}{quote}" if inside.endswith(quote) else inside


class Candidate(NamedTuple):
    """A word that may stand where one is begun, in whole, and what it means; empty where that is plain."""

    value: str
    help: str = ""


class FilesWanted(Exception):
    """A file is to be named here."""


def of(words: Sequence[str]) -> list[Candidate]:
    """Return what may stand in the place of the last word, which may be empty, and begins as it does.

    Args:
        words: what was typed behind `egec`, without quotation marks.

    Raises:
        FilesWanted: a file is to be named there.
        EgecError: what is to be looked up cannot be.
    """
    *before, begun = words
    place = _Place()
    for word in before:
        if not place.enter(word):
            return []
    return [one for one in place.candidates(begun) if one.value.startswith(begun) and one.value.isprintable()]


def first_sentence(command: Any) -> str:
    """Return what a command does, without what else its help says."""
    return str(command.help or "").partition("\n")[0]


class _Place:
    """Where in a command line the next word would stand."""

    def __init__(self) -> None:
        self._command: Any = get_command(root.app)
        in_operators_language(self._command)
        self._context = typer.Context(self._command, info_name="egec")
        self._option: Any = None
        self._arguments = 0
        self._only_arguments = False

    def enter(self, word: str) -> bool:
        """Go on behind a word; return whether that leads anywhere."""
        if self._option is not None:
            self._heed(self._option, word)
            self._option = None
        elif self._only_arguments or word[:1] != "-" or word == "-":
            return self._enter_argument(word)
        elif word == "--":
            self._only_arguments = True
        else:
            self._enter_option(word)
        return True

    def candidates(self, begun: str) -> Iterable[Candidate]:
        """Return what may stand here, whether it begins so or not."""
        if self._option is not None:
            return self._values(self._option, begun)
        if self._only_arguments or not begun.startswith("-"):
            return self._of_argument(begun)
        name, equals, value = begun.partition("=")
        if equals:
            option = self._options().get(name)
            return [] if option is None else (Candidate(f"{name}={one.value}") for one in self._values(option, value))
        return [Candidate(name, option.help or "") for name, option in self._options().items()]

    def _enter_argument(self, word: str) -> bool:
        if not isinstance(self._command, TyperGroup):
            self._arguments += 1
            return True
        if word not in self._command.commands:
            return False
        group = self._command
        self._command = group.loaded(word) if isinstance(group, LazyGroup) else group.commands[word]
        self._context = typer.Context(self._command, info_name=word, parent=self._context)
        return True

    def _enter_option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        option = self._options().get(name)
        if option is None or option.is_flag:
            return
        if equals:
            self._heed(option, value)
        else:
            self._option = option

    def _heed(self, option: Any, value: str) -> None:
        """Do what the root does with its options, as far as names depend on it."""
        if option.name == "env_file":
            os.environ[ENV_FILE_VARIABLE] = str(Path(value).expanduser())

    def _options(self) -> dict[str, Any]:
        shown = [one for one in self._command.get_params(self._context) if not one.hidden]
        return {name: one for one in shown if one.param_type_name == "option" for name in one.opts}

    def _of_argument(self, begun: str) -> Iterable[Candidate]:
        if isinstance(self._command, TyperGroup):
            return [Candidate(name, first_sentence(one)) for name, one in self._command.commands.items()]
        shown = [one for one in self._command.params if one.param_type_name == "argument" and not one.hidden]
        return self._values(shown[self._arguments], begun) if self._arguments < len(shown) else []

    def _values(self, parameter: Any, begun: str) -> Iterable[Candidate]:
        """Return the values of an option or an argument, where they are known, for what is begun of one.

        Raises:
            FilesWanted: it is a file.
        """
        path = self._context.command_path.removeprefix("egec ")
        look_up = _LOOKED_UP.get((path, parameter.name)) or _LOOKED_UP.get(("", parameter.name))
        if look_up is not None:
            return map(Candidate, look_up(path, begun))
        if any(word in (parameter.metavar or "") for word in ("FILE", translate(Words("FILE")))):
            raise FilesWanted
        return [Candidate(one.value) for one in parameter.shell_complete(self._context, "")]


def _runs(_path: str, _begun: str) -> list[str]:
    # Imported here, as below: each looks up what few commands need.
    from egec_cli.reissue import names
    from egec_cli.settings import load

    return names.list_run_names(load.load_settings().database)


def _fields(path: str, begun: str) -> Iterator[str]:
    from egec_cli.commands.contract import CONTRACT

    before = begun.rpartition(",")[0]
    known = dict.fromkeys(key for result in CONTRACT[path].results for key in result.keys)
    return (f"{before},{key}" if before else key for key in known if key not in before.split(","))


def _languages(_path: str, _begun: str) -> Sequence[str]:
    return LANGUAGES


# By the command, or of all commands, and the name of the parameter.
_LOOKED_UP: dict[tuple[str, str], Callable[[str, str], Iterable[str]]] = {
    ("", "fields"): _fields,
    ("", "language"): _languages,
    ("audit list", "run"): _runs,
    ("reissue resume", "name"): _runs,
    ("reissue status", "name"): _runs,
    ("reissue retry", "name"): _runs,
    ("reissue cancel", "name"): _runs,
}
