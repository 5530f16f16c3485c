"""Messages on stderr: wrapped at words at a terminal, with colours, and unchanged in a pipe."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from egec_cli.output import messages
from tests.conftest import Egec
from tests.screens.emulator import PROGRAM, see

FAULTY = {"EGEC_MAIL_TIMEOUT": "soon", "EGEC_LANGUAGE": "de"}
HINT = "Correct them in the environment; `egec help settings` explains every setting."


def test_a_wrapped_message_has_continuation_lines_below_its_words() -> None:
    seen = see([*PROGRAM, "client", "list"], columns=50, variables=FAULTY)
    assert (seen.code, seen.wrapped, seen.coloured) == (78, False, True)
    assert seen.lines == [
        "egec: invalid settings:",
        "  EGEC_MAIL_TIMEOUT must be a whole number from 1",
        "    to 3600. Example: EGEC_MAIL_TIMEOUT=60",
        "  EGEC_LANGUAGE must be one of fr, en. Example:",
        "    EGEC_LANGUAGE=fr",
        "      Correct them in the environment;",
        "      `egec help settings` explains every setting.",
    ]


def test_a_pipe_gets_each_message_on_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, **FAULTY, "COLUMNS": "20"}
    ended = subprocess.run([*PROGRAM, "client", "list"], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ended.stderr.splitlines()[-1] == f"      {HINT}"
    assert "\x1b" not in ended.stderr


def at_terminal(*arguments: str, **variables: str) -> str:
    """Return what a command writes to stderr, which is a terminal of 80 columns; stdout is not."""
    keyboard, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    subprocess.run([*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=terminal, env=environment)
    os.close(terminal)
    found = os.read(keyboard, 65536).decode()
    os.close(keyboard)
    return found


def test_an_error_is_red_and_what_to_type_is_bold() -> None:
    found = at_terminal("client", "list", **FAULTY)
    assert found.startswith("\x1b[1;31megec:\x1b[0m invalid settings:")
    assert "\x1b[1m`egec help settings`\x1b[0m" in found
    plain = re.sub(r"\x1b\[[\d;]*m", "", found)
    assert max(map(len, plain.splitlines())) <= 80
    assert " ".join(plain.split()).endswith(HINT)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colour_gets_none(name: str, value: str) -> None:
    found = at_terminal("client", "list", **FAULTY, **{name: value})
    assert not re.search(r"\x1b\[[\d;]*3\d", found)


def test_a_quiet_doctor_shows_severities_in_colour(egec: Egec) -> None:
    egec("init")
    found = at_terminal("--quiet", "doctor", EGEC_MAIL_RTE="3")
    assert "environment: \x1b[1;33mwarning\x1b[0m: unknown variable EGEC_MAIL_RTE" in found


def test_a_list_among_details_keeps_its_accents() -> None:
    assert messages.to_text({"fields": ["prénom"], "rows": 2}) == 'fields: ["prénom"], rows: 2'
