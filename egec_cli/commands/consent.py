"""Whether the operator wants what cannot be undone: asked at a terminal, said by an option elsewhere."""

import sys
from typing import Annotated

import typer

from egec_cli.translation import Words, translated

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; needed without a terminal.")]


def can_be_asked() -> bool:
    """Tell whether there is a terminal to ask at."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def is_given(question: Words) -> bool:
    """Ask the operator, in the language of both; any answer but yes is no."""
    prompt = f"{translated(question)} {translated(Words('[y/N]'))}"
    answer: str = typer.prompt(prompt, default="", show_default=False, err=True)
    return answer.strip().lower() in {"y", "yes", translated(Words("y")), translated(Words("yes"))}
