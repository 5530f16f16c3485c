"""`egec client`: the group; each of its commands is imported when it runs."""

from collections.abc import Mapping
from typing import ClassVar

from egec_cli.commands.root import LazyGroup, Member, new_app


class ClientGroup(LazyGroup):
    """The commands on client records."""

    members: ClassVar[Mapping[str, Member]] = {
        "create": Member("client_create", "Create a client; its identifier never changes."),
        "import": Member("client_import", "Create or update clients from the rows of a table."),
        "show": Member("client_show", "Show a client and its history: changes, mails and logins."),
        "list": Member(
            "client_list", "List clients, oldest first unless --sort is given; erased clients are left out."
        ),
        "export": Member(
            "client_export", "Export clients in the format that `egec client import` and spreadsheets read."
        ),
        "update": Member("client_change", "Change fields of a client; an empty value clears a field."),
        "disable": Member("client_change", "Disable one client or many."),
        "enable": Member("client_change", "Enable one disabled client or many."),
        "unblock": Member("client_change", "Lift the login block or wait of one client or many."),
        "erase": Member(
            "client_change",
            "Permanently erase the personal data of one client or many; identifiers stay reserved.",
        ),
    }


app = new_app(group=ClientGroup)


@app.callback()
def client() -> None:
    """Create, import, show, list, export, change and erase clients."""
