"""The French catalogue: `python -m tests.catalogue` updates it from the code and compiles it.

The texts are those of the code: the templates of `Words`, errors, notes and warnings, and all help of the commands.
"""

import ast
import errno
import io
import os
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from typer.main import get_command

import egec_cli
from egec_cli import errors
from egec_cli.commands import root
from egec_cli.commands.root import LazyGroup
from egec_cli.translation import CATALOGUES, DOMAIN

PACKAGE = Path(egec_cli.__file__).parent
PO = Path(CATALOGUES) / "fr" / "LC_MESSAGES" / f"{DOMAIN}.po"
MO = PO.with_suffix(".mo")
HEADER = b"""\
# French for the operators of egec.
msgid ""
msgstr ""
"Language: fr\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=2; plural=(n > 1);\\n"

"""
# The callables that take templates, and the number of arguments that are templates.
TEMPLATES = {name: 2 for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)} | {
    "Words": 1,
    "count_words": 3,
    "note": 1,
    "warn": 1,
    "DeliveryUnknown": 1,
    "Fault": 1,
    "_fault": 1,
    "UntrustedFile": 2,
}
# Texts of Typer in help and errors.
OF_TYPER = (
    "Arguments",
    "Options",
    "Commands",
    "required",
    "default: {default}",
    "Missing command.",
    "No such command {name!r}.",
    "Show this message and exit.",
)
# Messages of the system about files, folders and servers.
OF_THE_SYSTEM = (
    *map(
        os.strerror,
        (errno.EACCES, errno.EBADF, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EINVAL, errno.EIO, errno.EISDIR),
    ),
    *map(os.strerror, (errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOEXEC, errno.ENOSPC)),
    *map(os.strerror, (errno.ENOTDIR, errno.EPERM, errno.EPIPE, errno.EROFS)),
    *map(os.strerror, (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)),
    "Name or service not known",
    "No address associated with hostname",
    "Temporary failure in name resolution",
)


def templates_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the templates of a module with their lines."""
    for argument in arguments_of(path):
        for node in (argument.body, argument.orelse) if isinstance(argument, ast.IfExp) else (argument,):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
                yield node.value, node.lineno


def arguments_of(path: Path) -> Iterator[ast.expr]:
    """Yield the arguments that a module passes as templates, even if they are not literals."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            yield from node.args[: TEMPLATES.get(name, 0)]


def commands() -> Iterator[Any]:
    """Yield every command and group in English."""
    yield from _with_members(get_command(root.app))
    for name in root.SUBCOMMANDS:
        yield from _with_members(get_command(import_module(f"egec_cli.commands.{name}").app))


def _with_members(command: Any) -> Iterator[Any]:
    yield command
    if isinstance(command, LazyGroup):
        yield from (command.commands[name] for name in command.members)
        if type(command) is not root.Root:
            yield from (command.load_command(name) for name in command.members)
    else:
        for member in getattr(command, "commands", {}).values():
            yield from _with_members(member)


def texts_of(command: Any) -> Iterator[str]:
    """Yield the texts of the help of a command, except its example."""
    texts = [command.help, command.short_help, command.options_metavar, getattr(command, "subcommand_metavar", None)]
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            texts += [parameter.help, parameter.metavar]
    yield from filter(None, texts)


def texts() -> Catalog:
    """Return all texts of the program with their places."""
    found = Catalog(domain=DOMAIN, project="egec", charset="utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        for text, line in templates_of(path):
            found.add(text, locations=[(str(path.relative_to(PACKAGE)), line)])
    for text in (*OF_TYPER, *OF_THE_SYSTEM):
        found.add(text)
    for command in commands():
        for text in texts_of(command):
            found.add(text)
    return found


def fields(template: str) -> set[tuple[str, str, str]]:
    """Return the values of a template, with their conversions and formats."""
    parsed = string.Formatter().parse(template)
    return {(name, conversion or "", form or "") for _, name, form, conversion in parsed if name is not None}


def read() -> Catalog:
    """Return the French catalogue."""
    with PO.open("rb") as file:
        catalogue = read_po(file, locale="fr", domain=DOMAIN)
    # A constant date, so that the same texts give the same file.
    catalogue.creation_date = catalogue.revision_date = datetime(2026, 11, 25, tzinfo=UTC)
    return catalogue


def compiled(catalogue: Catalog) -> bytes:
    """Return a catalogue in the form that the program reads."""
    buffer = io.BytesIO()
    write_mo(buffer, catalogue)
    return buffer.getvalue()


def written(catalogue: Catalog) -> bytes:
    """Return a catalogue in the form that translators work on."""
    buffer = io.BytesIO(HEADER)
    buffer.seek(0, io.SEEK_END)
    write_po(
        buffer, catalogue, width=120, sort_output=True, include_lineno=False, ignore_obsolete=True, omit_header=True
    )
    return buffer.getvalue()


def main() -> None:
    """Update the catalogue: add new texts without a translation, and remove old ones."""
    catalogue = read()
    catalogue.update(texts(), no_fuzzy_matching=True, update_creation_date=False)
    PO.write_bytes(written(catalogue))
    MO.write_bytes(compiled(catalogue))
    missing = [message for message in catalogue if message.id and not message.string]
    print(f"{len(catalogue)} texts, {len(missing)} without a translation")


if __name__ == "__main__":
    main()
