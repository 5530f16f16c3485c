"""Whether the operator wants what cannot be undone: asked at a terminal, said by an option elsewhere."""

import sys
from typing import Annotated

import typer

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; needed without a terminal.")]


def can_be_asked() -> bool:
    """Tell whether there is a terminal to ask at."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
