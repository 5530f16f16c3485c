"""`egec client`: the group; each of its commands is imported when it is to run."""

from collections.abc import Mapping
from typing import ClassVar

from egec_cli.commands.root import LazyGroup, Member, new_app


class ClientGroup(LazyGroup):
    """The commands on client files."""

    members: ClassVar[Mapping[str, Member]] = {
        "create": Member("client_create", "Create a client's file; the identifier that it gets never changes."),
        "import": Member("client_import", "Make client files of the rows of a table, or bring them up to date."),
        "show": Member(
            "client_show", "Show a client's file and its story: how it came about, its changes, mails and logins."
        ),
        "list": Member(
            "client_list",
            "List the client files, in the order in which they were made or sorted; erased ones are left out.",
        ),
        "export": Member(
            "client_export", "Write the client files as `egec client import` reads them, and spreadsheets do."
        ),
        "update": Member("client_change", "Change fields of a client's file; an empty value clears one."),
        "disable": Member(
            "client_change", "Let no password open a client's account, or those of many, until they are enabled."
        ),
        "enable": Member("client_change", "Let a client who was disabled, or many, log in as before."),
        "unblock": Member(
            "client_change", "Let a client who is blocked or waits after failed logins, or many, try again at once."
        ),
        "erase": Member(
            "client_change",
            "Erase a client's personal data for good, or that of many; the identifiers stay reserved for ever.",
        ),
    }


app = new_app(group=ClientGroup)


@app.callback()
def client() -> None:
    """Create, import, show, list, export, change and erase client files."""
