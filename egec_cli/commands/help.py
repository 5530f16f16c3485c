"""`egec help`: lists the guides, and shows the one about a topic, a command or a code."""

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from egec_cli.commands.root import new_app
from egec_cli.errors import ExitCode, UsageError
from egec_cli.guides import pages
from egec_cli.output.formats import print_line
from egec_cli.output.pager import show_markdown
from egec_cli.output.screen import wrap_for
from egec_cli.translation import Words, translate

app = new_app()

_HOW_TO_READ = Words(
    "Type `egec help NAME` to read a guide, `egec help CODE` for an error, `egec COMMAND --help` for options."
)


@app.command("help", epilog="egec help\negec help bounces\negec help reissue start\negec help in_doubt")
def help_command(
    topic: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TOPIC|COMMAND]",
            help="Name of a guide, a command, a setting, an error code or an exit code (default: list the guides).",
        ),
    ] = None,
) -> None:
    """Show the guide about a topic or a command; without one, list all guides.

    A terminal gets the guide formatted and in a pager; a pipe gets Markdown.
    """
    if topic:
        show_markdown(_find(" ".join(topic)))
    else:
        for line in _list_lines():
            print_line(line)


def _list_lines() -> Iterator[str]:
    guides = pages.list_guides()
    width = max(len(guide.name) for guide in guides)
    yield from wrap_for(sys.stdout, translate(_HOW_TO_READ))
    yield ""
    for guide in guides:
        yield from wrap_for(sys.stdout, guide.summary, f"{guide.name:{width}}  ")


def _find(typed: str) -> str:
    """Return the guide or the section about a topic, as Markdown.

    Raises:
        UsageError: the topic is unknown.
    """
    topic = typed.lower()
    names = pages.names()
    # A guide and a command may share a name.
    note = _name_help_of(topic) if topic not in names or topic in pages.COMMANDS else None
    if note:
        name = topic if topic in names else pages.find_guide_of_command(topic)
        return f"{translate(note)}\n\n{pages.read_guide(name)}"
    if topic in names:
        return pages.read_guide(topic)
    if section := _find_section(topic):
        return section
    raise _unknown(typed)


def _name_help_of(path: str) -> Words | None:
    """Return a sentence that names the `--help` of a command or a group; None for other words."""
    members = _commands()
    if path not in members:
        return None
    if any(other.startswith(f"{path} ") for other in members):
        return Words("`egec {command} --help` lists the commands of this group.", command=path)
    return Words("`egec {command} --help` lists the options of this command.", command=path)


def _commands() -> list[str]:
    """Return the paths of all commands and groups."""
    # Imported here, as below: it imports every command.
    from egec_cli.commands.contract import CONTRACT

    return list(dict.fromkeys(path for command in CONTRACT for path in (command.partition(" ")[0], command)))


def _find_section(topic: str) -> str:
    """Return what the guides say about an error code, an exit code, an outcome or a setting; empty for another word."""
    if topic.upper() in _settings():
        return pages.find_section(pages.SETTINGS, topic.upper())
    if topic in pages.OUTCOMES:
        return pages.find_section(*pages.OUTCOMES[topic])
    if topic in _codes() or topic in {str(code.value) for code in ExitCode}:
        found = (pages.find_section(name, topic) for name in pages.CODES)
        return next(filter(None, found), "")
    return ""


def _settings() -> list[str]:
    from egec_cli.settings.schema import SETTINGS

    return [setting.name for setting in SETTINGS]


def _codes() -> list[str]:
    from egec_cli.commands.contract import ERRORS

    return list(dict.fromkeys([*ERRORS, *pages.list_codes()]))


def _unknown(topic: str) -> UsageError:
    # Imported here: only errors need it.
    from difflib import get_close_matches

    names = pages.names()
    known = {one.lower(): one for one in [*names, *_commands(), *_codes(), *pages.OUTCOMES, *_settings()]}
    hint = Words("The guides are: {names}.", names=", ".join(names))
    nearest = get_close_matches(topic.lower(), known, n=1)
    if nearest:
        meant = known[nearest[0]]
        return UsageError("unknown topic: {topic!r} (did you mean {meant}?)", hint, topic=topic, meant=meant)
    return UsageError("unknown topic: {topic!r}", hint, topic=topic)
