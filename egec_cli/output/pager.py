"""Long texts for people: the pager, and Markdown rendered for a terminal."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

# Wider lines are hard to read.
_WIDEST = 100
# Of less: keep the text on the screen, end if it fits the screen, show colours; then also cut long lines.
_WRAPPED = "FRX"
_CUT = "FRSX"
# Of the colours of 256, one that can be read on white and on black alike.
READABLE_CYAN = "color(30)"


@contextmanager
def pager(*, cuts_lines: bool = True) -> Iterator[None]:
    """Send what the block writes to a pager, if there is one and standard input is a terminal.

    PAGER names a program other than `less`; `cat`, or an empty value, disables paging. A terminal of the type `dumb`,
    which less does not support, has no pager by default.

    Args:
        cuts_lines: show each line on one line of the screen, as suits a table; otherwise wrap long lines.
    """
    import subprocess
    from shutil import which

    from egec_cli.output.progress import suspend_progress

    command = os.environ.get("PAGER", "cat" if _is_dumb() else "less").split()
    if command in ([], ["cat"]) or which(command[0]) is None or sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    # LESSSECURE stops users of sudo from starting a shell.
    usual = {"LESS": _CUT if cuts_lines else _WRAPPED, "LESSCHARSET": "utf-8"}
    environment = usual | dict(os.environ) | {"LESSSECURE": "1"}
    if os.path.basename(command[0]) == "less":
        # Also if LESS is set: without it, less shows colours as codes.
        command = [*command, "-R"]
    # In the pager, Ctrl-C stops a search.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suspend_progress():
        program = subprocess.Popen(  # noqa: S603 - the operator's choice
            command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
        )
        assert program.stdin is not None
        try:
            with suppress(BrokenPipeError), program.stdin, redirect_stdout(program.stdin):
                yield
        finally:
            program.wait()
            signal.signal(signal.SIGINT, previous)


def show_markdown(text: str) -> None:
    """Show Markdown on stdout: rendered and in the pager at a terminal, otherwise as it is."""
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    shown = text if _is_dumb() else _render(text)
    with pager(cuts_lines=False):
        sys.stdout.write(shown)


def _is_dumb() -> bool:
    """Return whether the terminal shows neither colours nor bold text."""
    return os.environ.get("TERM") == "dumb"


def _render(text: str) -> str:
    # Imported here, for terminals only: it takes as long as the rest of a command.
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Heading, Markdown, TableElement
    from rich.padding import Padding
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text
    from rich.theme import Theme

    class MarkedHeading(Heading):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            # The marks show the level without colours, and make headings easy to search in the pager.
            yield Text(f"{'#' * int(self.tag[1:])} {self.text.plain}", style=self.style_name)

    class PlainCode(CodeBlock):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            code = str(self.text).rstrip()
            if options.max_width < width:
                # In a list, where rich would cut long lines.
                yield Padding(Text(code, style="markdown.code", overflow="fold"), (0, 0, 0, 2))
                return
            # Long lines stay whole, so that they can be copied.
            for line in code.splitlines():
                yield Segment("    ")
                yield Segment(line, console.get_style("markdown.code"))
                yield Segment.line()

    class WholeTable(TableElement):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                assert isinstance(table, Table)
                for column in table.columns:
                    # By default, rich cuts long words.
                    column.overflow = "fold"
                yield table

    class Guide(Markdown):
        elements = Markdown.elements | {
            "heading_open": MarkedHeading,
            "fence": PlainCode,
            "code_block": PlainCode,
            "table_open": WholeTable,
        }

    # The usual styles have a black background, or colours that are hard to read on a light one.
    names = {
        "bold underline": ("h1", "h2"),
        "bold": ("h3", "h4", "table.header"),
        f"bold {READABLE_CYAN}": ("code",),
        READABLE_CYAN: ("item.number", "table.border", "link"),
        "none": ("block_quote", "link_url"),
    }
    styles = {name: style for style, styled in names.items() for name in styled}
    theme = Theme({f"markdown.{name}": style for name, style in styles.items()})
    console = Console(theme=theme, force_terminal=True, highlight=False)
    width = min(console.width, _WIDEST)
    with console.capture() as captured:
        console.print(Guide(text, hyperlinks=False), width=width, crop=False)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
