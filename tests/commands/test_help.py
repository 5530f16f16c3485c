"""`egec help`: as a process, at a real terminal of 80 columns and in a pipe."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import unicodedata
from pathlib import Path

import pytest

from egec_cli.commands.contract import CONTRACT, ERRORS
from egec_cli.errors import ExitCode
from egec_cli.guides import pages
from egec_cli.settings.schema import SETTINGS
from tests.conftest import Egec
from tests.programs import require_program

COLUMNS = 80
NAMES = pages.names()
COMMANDS_AND_GROUPS = list(dict.fromkeys(path for command in CONTRACT for path in (command.partition(" ")[0], command)))
CODES = re.compile(r"\x1b\[[0-9;]*m")


def at_terminal(*arguments: str, typed: str = "", **environment: str) -> str:
    """Run `egec help` at a terminal of 80 columns and 24 lines, and type some keys; return the output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, COLUMNS))
    process = subprocess.Popen(
        [sys.executable, "-m", "egec_cli", "help", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "LINES": "", "COLUMNS": "", "TERM": "xterm", "PAGER": "cat", **environment},
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the terminal's other side is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0, seen
    return seen.decode().replace("\r\n", "\n")


def width(line: str) -> int:
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in {"W", "F"}) for c in line)


def code_lines(name: str) -> list[str]:
    """Return the lines of the fenced blocks of a guide, which are shown as they are."""
    return "\n".join(re.findall(r"^ *```.*?\n(.*?)^ *```$", pages.read_guide(name), re.MULTILINE | re.DOTALL)).split(
        "\n"
    )


def prose(name: str) -> str:
    """Return a guide without its code."""
    return re.sub(r"^ *```.*?```$|`[^`]*`", "", pages.read_guide(name), flags=re.MULTILINE | re.DOTALL)


def test_without_an_argument_each_guide_is_listed_in_one_line_with_its_summary(egec_process: Egec) -> None:
    ended = egec_process("help")
    first, empty, *listed = ended.out.splitlines()
    assert (ended.code, ended.err, empty) == (0, "", "")
    assert "`egec help NAME`" in first
    expected = []
    for path in sorted(Path(pages.__file__).parent.glob("*.md")):
        title, blank, summary, *_ = path.read_text(encoding="utf-8").splitlines()
        assert (title[:2], blank) == ("# ", "")
        expected.append([path.stem, summary])
    assert [line.split(maxsplit=1) for line in listed] == expected
    assert len(listed) >= 13


def test_the_list_fits_a_terminal(egec_process: Egec) -> None:
    shown = at_terminal().splitlines()
    assert max(map(width, shown)) <= COLUMNS
    assert " ".join(" ".join(shown).split()) == " ".join(egec_process("help").out.split())
    assert all(line.startswith(" ") or not line or line.split()[0] in {*NAMES, "Type", "`egec"} for line in shown)


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_in_a_pipe_is_markdown_without_comments_and_with_commands_for_links(
    egec_process: Egec, name: str
) -> None:
    out = egec_process("help", name).out
    guide = (Path(pages.__file__).parent / f"{name}.md").read_text(encoding="utf-8")
    assert guide.splitlines()[0] in out.splitlines()
    assert "<!--" not in prose(name)
    assert not re.search(r"\]\((?!https?://)", prose(name))
    assert out.endswith(pages.read_guide(name))
    # Nothing but comments and links was changed.
    words = set(re.findall(r"\w+", re.sub(r"<!--.*?-->|\]\([^)]*\)", "", guide, flags=re.DOTALL)))
    assert words <= set(re.findall(r"\w+", out))


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_at_a_terminal_is_rendered_within_its_columns(name: str) -> None:
    seen = at_terminal(name)
    shown = CODES.sub("", seen)
    assert "\x1b[1" in seen
    assert "\x1b]8" not in seen
    assert not re.search(r"\x1b\[[0-9;]*4[0-7]m", seen), "no background colours"
    assert "<!--" not in prose(name)
    copied = {line.strip() for line in code_lines(name)}
    assert [line for line in shown.splitlines() if width(line) > COLUMNS and line.strip() not in copied] == []
    # Lines to copy stay whole, except in lists, which may fold them.
    unwrapped = re.sub(r"\s", "", shown)
    assert [line for line in code_lines(name) if re.sub(r"\s", "", line) not in unwrapped] == []
    assert "…" not in shown or "…" in pages.read_guide(name)


def test_a_long_guide_goes_through_less_which_wraps_long_lines_and_starts_no_shell() -> None:
    require_program("less", "less")
    seen = at_terminal("logins", PAGER="less", typed="q")
    assert "Logins for other programs" in seen
    assert "Many logins at once" not in seen
    assert "ESC" not in seen
    options = {"PAGER": "less", "LESS": "-i"}
    assert "ESC" not in at_terminal("logins", typed="q", **options)


def test_the_pager_may_be_another_program_and_may_end_early(tmp_path: Path) -> None:
    program = tmp_path / "pager"
    program.write_text("#!/bin/sh\necho paged $LESS $LESSSECURE\nhead -n 1\n")
    program.chmod(0o700)
    seen = at_terminal("logins", PAGER=str(program))
    assert seen.startswith("paged FRX 1\n")
    assert "Traceback" not in seen


def test_no_color_leaves_bold_text_and_a_dumb_terminal_gets_markdown(egec_process: Egec) -> None:
    plain = egec_process("help", "logins").out
    seen = at_terminal("logins", NO_COLOR="1")
    assert "\x1b[1m" in seen
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", seen)
    # Without PAGER too: less asks for a key on such a terminal.
    environment = {"TERM": "dumb"}
    assert at_terminal("logins", **environment) == plain
    environment["PAGER"] = "less"
    assert "Logins for other programs" in at_terminal("logins", typed="\rq", **environment)


def test_a_dumb_terminal_has_no_pager_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGER", raising=False)
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "egec_cli", "help", "bounces"],
        stdin=theirs,
        stdout=theirs,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    assert done.wait(timeout=60) == 0
    assert seen.decode().replace("\r\n", "\n") == pages.read_guide("bounces")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the terminal's other side is closed
        return b""


@pytest.mark.parametrize("locale", ["C", "fr_FR.UTF-8", "POSIX"])
def test_guides_are_english_utf_8_in_every_locale(egec_process: Egec, locale: str) -> None:
    shown = egec_process("help", "runs", env={"LC_ALL": locale})
    assert (shown.code, shown.out) == (0, pages.read_guide("runs"))
    assert CODES.sub("", at_terminal("runs", LC_ALL=locale)).startswith("# New passwords for many clients\n")


def test_a_reader_that_closes_the_pipe_ends_it_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "egec_cli", "help", "reference"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == ExitCode.BROKEN_PIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize("path", COMMANDS_AND_GROUPS)
def test_every_command_and_group_has_a_guide_that_begins_with_its_own_help(egec: Egec, path: str) -> None:
    ended = egec("help", *path.split())
    kind = "options of this command" if path in CONTRACT else "commands of this group"
    first, empty, title, *_ = ended.out.splitlines()
    assert (ended.code, first, empty) == (0, f"`egec {path} --help` lists the {kind}.", "")
    assert title.startswith("# ")
    assert path not in NAMES or ended.out.endswith(pages.read_guide(path))


def test_the_guides_of_commands_exist() -> None:
    assert set(pages.COMMANDS.values()) <= set(NAMES)
    assert set(pages.COMMANDS) <= set(COMMANDS_AND_GROUPS)
    assert pages.find_guide_of_command("reissue start") == "runs"
    assert pages.find_guide_of_command("client import") == "import"


@pytest.mark.parametrize("topic", [*ERRORS, *(str(code.value) for code in ExitCode)])
def test_a_code_leads_to_what_the_guides_say_about_it(egec: Egec, topic: str) -> None:
    ended = egec("help", topic)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("#")
    assert re.search(rf"(?<!\w){topic}(?!\w)", ended.out)


@pytest.mark.parametrize("outcome", ["client_limited", "origin_limited", "not_recognised", *pages.OUTCOMES])
def test_an_outcome_that_is_no_error_leads_to_the_section_that_explains_it(egec: Egec, outcome: str) -> None:
    ended = egec("help", outcome)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("#")
    assert f"`{outcome}`" in ended.out


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
def test_a_setting_leads_to_what_the_guides_say_about_it(egec: Egec, name: str) -> None:
    for typed in (name, name.lower()):
        ended = egec("help", typed)
        assert ended.code == 0
        assert f"`{name}`" in ended.out


def test_a_section_ends_at_the_next_heading_of_its_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "codes.md").write_text(
        "# Codes\n\nAfter **78**.\n\n## 75: temporary\n\nWait.\n\n### `in_doubt`\n\n```sh\n# `no_run`\negec\n```\n\n"
        "### Others\n\nWith `in_doubt`, and 750.\n\n| code |\n|---|\n| `no_run` |\n| 3 |\n\n"
        "## 77\n\nA defect: no.\n\n### defect\n\nReport it.\n"
    )
    monkeypatch.setattr(pages, "_FOLDER", tmp_path)
    whole = pages.read_guide("codes")
    assert pages.find_section("codes", "75") == whole[whole.index("## 75") : whole.index("\n## 77")]
    assert pages.find_section("codes", "in_doubt") == whole[whole.index("### `in") : whole.index("\n### Oth")]
    others = whole[whole.index("### Oth") : whole.index("\n## 77")]
    assert pages.find_section("codes", "3") == others
    assert pages.find_section("codes", "no_run") == whole[whole.index("### `in") : whole.index("\n### Oth")]
    assert pages.find_section("codes", "750") == ""
    # A plain word in a heading is not yet a code, unless it is the whole heading.
    assert pages.find_section("codes", "temporary") == ""
    assert pages.find_section("codes", "defect") == "### defect\n\nReport it.\n"
    assert pages.find_section("codes", "78").startswith("# Codes\n")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_guide_tells_to_type_after_help_exists(egec: Egec, name: str) -> None:
    for topic in set(re.findall(r"`egec help ([\w -]+)`", pages.read_guide(name))) - {"NAME", "CODE"}:
        assert egec("help", *topic.split()).code == 0, topic


def test_links_to_codes_are_commands_that_show_their_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "troubleshooting.md").write_text("# A\n\n[in_doubt](#in_doubt), [below](#in_doubt)\n")
    (tmp_path / "runs.md").write_text("# B\n\n[`in_doubt`](troubleshooting.md#in_doubt), [x](troubleshooting.md#x-y)\n")
    monkeypatch.setattr(pages, "_FOLDER", tmp_path)
    assert pages.read_guide("troubleshooting") == "# A\n\n`egec help in_doubt`, below\n"
    assert pages.read_guide("runs") == "# B\n\n`egec help in_doubt`, x (`egec help troubleshooting`)\n"


def test_links_and_comments_are_those_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "links.md").write_text(
        "# A\n\nSee [runs](runs.md), [`egec help runs`](runs.md#x), [how to\nresume](runs.md#resume), [below](#x),\n"
        "[pipx](https://pipx.pypa.io), [the licence](../../LICENSE) <!-- a note -->and `[a](b.md)`.\n\n"
        "<!-- executed by tests/x.py -->\n```xml\n<!-- kept --> [a](b.md)\n```\n<!-- end -->\n"
    )
    monkeypatch.setattr(pages, "_FOLDER", tmp_path)
    assert pages.read_guide("links") == (
        "# A\n\nSee `egec help runs`, `egec help runs`, how to\nresume (`egec help runs`), below,\n"
        "[pipx](https://pipx.pypa.io), the licence and `[a](b.md)`.\n\n```xml\n<!-- kept --> [a](b.md)\n```\n"
    )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["bounce"], "bounces"),
        (["Bouncs"], "bounces"),
        (["client", "imprt"], "client import"),
        (["reissue", "begin"], None),
        (["indoubt"], "in_doubt"),
        (["EGEC_MAIL_RAT"], "EGEC_MAIL_RATE"),
        (["76"], None),
        (["../../README"], None),
        (["\x1b[31mred", "ünïcode"], None),
        ([""], None),
    ],
)
def test_an_unknown_topic_names_the_nearest_and_all_guides(egec: Egec, words: list[str], meant: str | None) -> None:
    ended = egec("help", *words)
    assert (ended.code, ended.out) == (2, "")
    typed = " ".join(words)
    first, second = ended.err.splitlines()
    assert first.startswith(f"egec: unknown topic: {typed!r}")
    assert (meant is None) or first.endswith(f" (did you mean {meant}?)")
    assert second.split(": ")[1] == f"{', '.join(NAMES)}."


def test_the_texts_of_the_command_are_french_for_a_french_operator(egec_process: Egec) -> None:
    french = {"LANG": "fr_FR.UTF-8"}
    assert egec_process("help", env=french).out.startswith("Tapez `egec help NOM` pour lire un guide")
    of_command = egec_process("help", "reissue", "start", env=french).out.splitlines()[0]
    assert of_command == "`egec reissue start --help` liste les options de cette commande."
    unknown = egec_process("help", "bounce", env=french)
    assert unknown.code == 2
    assert "sujet inconnu\u00a0: 'bounce' (vouliez-vous dire bounces\u00a0?)" in unknown.err


def test_an_error_names_the_guide_that_helps_in_its_last_line(egec: Egec, egec_process: Egec, tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text("email\nno-address\n")
    command = ("client", "import", "clients.csv", "--strict")
    ended = egec(*command)
    assert ended.code == ExitCode.INVALID_INPUT
    assert ended.err.splitlines()[-1] == "      See: egec help import"
    french = egec_process(*command, env={"LANG": "fr_FR.UTF-8"})
    assert french.err.splitlines()[-1] == "      Voir\u00a0: egec help import"
    [line] = egec("client", "show", "nobody@example.org", "--format", "json").err.splitlines()
    assert set(json.loads(line)["error"]) == {"code", "message", "hint"}
    assert "egec help" not in egec("client", "list", "--no-such-option").err


def test_a_wrong_setting_names_the_guide_once(egec: Egec, egec_process: Egec, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EGEC_LANGUAGE=de\n")
    ended = egec("init")
    assert ended.code == ExitCode.CONFIGURATION
    assert ended.err.splitlines()[-1].endswith("; `egec help settings` explains every setting.")
    assert egec_process("init", env={"LANG": "fr_FR.UTF-8"}).err.count("egec help settings") == 1


def test_the_topics_that_errors_name_exist(egec: Egec) -> None:
    assert set(pages.ERRORS) <= set(ERRORS)
    for topic in set(pages.ERRORS.values()):
        assert egec("help", topic).code == 0, topic


def test_neither_settings_nor_database_are_read(egec_process: Egec, tmp_path: Path) -> None:
    broken = {"EGEC_DATABASE_URL": "nonsense", "EGEC_ENV_FILE": str(tmp_path / "missing"), "EGEC_NO_SETTING": "x"}
    assert egec_process("help", "bounces", env=broken).code == 0
    assert egec_process("help", env=broken).code == 0
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_the_program_names_it(egec: Egec) -> None:
    assert "Type `egec help` for the guides" in egec("--help").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("help", "bou"), ["bounces"]),
        (("help", "re"), ["reference", "reissue", "retention"]),
        (("help", "client", "im"), ["import"]),
        (("help", "runs", ""), []),
        (("help", "client", "import", ""), []),
        (("help", "nonsense", ""), []),
        (("help", "--"), ["--help"]),
    ],
)
def test_topics_and_commands_are_completed(egec: Egec, words: tuple[str, ...], expected: list[str]) -> None:
    _, *found = egec("completion", "fish", "--", *words).out.splitlines()
    assert sorted(line.partition("\t")[0] for line in found) == expected
