"""`egec password`."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer

from egec_cli.commands.options import OutputOption
from egec_cli.commands.root import new_app
from egec_cli.commands.session import read_settings
from egec_cli.output.formats import OutputFormat, print_line, render_all
from egec_cli.output.messages import note
from egec_cli.password import Alphabet, generate_password

app = new_app()


class GeneratedPassword(NamedTuple):
    """A password for use elsewhere: it belongs to no client.

    Attributes:
        password: in clear.
    """

    password: str


class RatedPassword(NamedTuple):
    """The same with its entropy.

    Attributes:
        password: in clear.
        entropy_bits: bits of entropy of the generator.
    """

    password: str
    entropy_bits: float


@app.command("password", epilog=("egec password\negec password --count 5"))
def password_command(
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=1_000_000, help="Number of passwords.")] = 1,
    entropy: Annotated[bool, typer.Option("--entropy", help="Also show the entropy in bits.")] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Print generated passwords without changing any account."""
    alphabet = read_settings().alphabet
    if output is OutputFormat.TABLE:
        for _ in range(count):
            print_line(generate_password(alphabet).reveal())
        if entropy:
            note("entropy: {entropy_bits:.1f} bits each", entropy_bits=alphabet.entropy_bits)
        return
    kind = RatedPassword if entropy else GeneratedPassword
    render_all(_generate_passwords(alphabet, count, entropy), kind, output)


def _generate_passwords(alphabet: Alphabet, count: int, entropy: bool) -> Iterator[GeneratedPassword | RatedPassword]:
    bits = round(alphabet.entropy_bits, 2)
    for _ in range(count):
        clear = generate_password(alphabet).reveal()
        yield RatedPassword(clear, bits) if entropy else GeneratedPassword(clear)
