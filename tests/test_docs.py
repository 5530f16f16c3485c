"""The README, the guides, `.env.example` and the help agree with the code."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from babel.messages.pofile import read_po
from typer.core import TyperGroup
from typer.main import get_command

from egec_cli.commands import root
from egec_cli.commands.client import ClientGroup
from egec_cli.commands.contract import ERRORS
from egec_cli.commands.root import LazyGroup
from egec_cli.errors import ExitCode
from egec_cli.guides import pages
from egec_cli.settings import load
from egec_cli.settings.schema import FOR_EXPERTS, NEEDED_BY_EVERYONE, OFTEN_USEFUL, Setting
from egec_cli.translation import Words
from tests import catalogue
from tests.conftest import Egec

CHECKOUT = Path(__file__).parent.parent
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "egec_cli" / "guides").glob("*.md"))]
MANUAL = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
ENV_EXAMPLE = (CHECKOUT / ".env.example").read_text(encoding="utf-8")
GROUPS = {"Needed by everyone": NEEDED_BY_EVERYONE, "Often useful": OFTEN_USEFUL, "For experts": FOR_EXPERTS}


def table(name: str) -> list[list[str]]:
    """Return the rows of the table below this mark."""
    block = MANUAL.partition(f"<!-- {name} -->")[2].partition("<!-- end -->")[0]
    rows = [line for line in block.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def commands() -> dict[str, object]:
    """Return every command with its path as it is typed."""
    found: dict[str, object] = {}
    for name in root.SUBCOMMANDS:
        command = get_command(import_module(f"egec_cli.commands.{name}").app)
        if isinstance(command, LazyGroup):
            found |= {f"egec {name} {inner}": command.load_command(inner) for inner in command.members}
        elif isinstance(command, TyperGroup):
            found |= {f"egec {name} {inner}": inner_command for inner, inner_command in command.commands.items()}
        else:
            found[f"egec {name}"] = command
    return found


def first_sentence(command: object) -> str:
    return str(command.help).partition("\n")[0]  # type: ignore[attr-defined]


def test_the_table_of_commands_is_complete_and_repeats_their_help() -> None:
    expected = []
    for path, command in commands().items():
        arguments = [p.make_metavar(None) for p in command.params if p.param_type_name == "argument"]  # type: ignore[attr-defined]
        expected.append([f"`{' '.join([path, *arguments])}`", first_sentence(command)])
    assert table("commands") == expected


def test_the_table_of_exit_codes_is_that_of_the_program() -> None:
    assert table("exit codes") == [[str(code.value), code.meaning] for code in ExitCode]


@pytest.mark.parametrize(("heading", "settings"), GROUPS.items())
def test_the_tables_of_settings_are_those_of_the_program(heading: str, settings: Sequence[Setting]) -> None:
    expected = [[f"`{s.name}`", default_of(s), s.meaning + (" *Secret.*" if s.secret else "")] for s in settings]
    assert table(f"settings: {heading.lower()}") == expected


def default_of(setting: Setting) -> str:
    return setting.default if isinstance(setting.default, Words) else f"`{setting.default}`"


def test_the_example_file_explains_every_setting_in_its_group_and_no_other() -> None:
    title, *rest = re.split(r"^# ---- (.+) ----$", ENV_EXAMPLE, flags=re.MULTILINE)
    assert "EGEC_" not in title
    named = [re.findall(r"^#?(EGEC_\w+)=", part, flags=re.MULTILINE) for part in rest[1::2]]
    expected = [[name for s in settings for name in names_of(s)] for settings in GROUPS.values()]
    assert dict(zip(rest[::2], named, strict=True)) == dict(zip(GROUPS, expected, strict=True))


def test_an_apostrophe_is_written_as_the_example_shows(tmp_path: Path) -> None:
    for text in (ENV_EXAMPLE, MANUAL):
        [example] = re.findall(r"'L\S*assistance'", text)
        (tmp_path / "egec.env").write_text(f"EGEC_SUPPORT={example}\n")
        (tmp_path / "egec.env").chmod(0o600)
        assert load.load_settings({"EGEC_ENV_FILE": str(tmp_path / "egec.env")}).support == "L'assistance"


def names_of(setting: Setting) -> list[str]:
    return [setting.name, f"{setting.name}_FILE"] if setting.secret else [setting.name]


def test_the_example_file_can_be_used_with_every_setting_switched_on(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    switched_on = re.sub(r"^#(EGEC_\w+=)", r"\1", ENV_EXAMPLE, flags=re.MULTILINE)
    switched_on = re.sub(r"^EGEC_\w+_FILE=.*\n", "", switched_on, flags=re.MULTILINE)
    # The password is in the URL, so it cannot come from elsewhere too.
    switched_on = re.sub(rf"^({'|'.join(load.LOGIN_SETTINGS)})=.*\n", "", switched_on, flags=re.MULTILINE)
    (tmp_path / "egec.env").write_text(switched_on.replace("/etc/egec/templates", "templates"), encoding="utf-8")
    found = load.load_settings({"EGEC_ENV_FILE": str(tmp_path / "egec.env")})
    defaults = load.load_settings({})
    assert str(found.mail_server) == "smtp.example.org:587"
    for name in ("mail_from", "mail_timeout", "app_name", "app_url", "language", "bcrypt_cost", "alphabet"):
        assert getattr(found, name) == getattr(defaults, name)


@pytest.mark.parametrize("path", commands())
def test_every_command_has_help_with_an_example_that_names_it(egec: Egec, path: str) -> None:
    ended = egec(*path.split()[1:], "--help")
    assert ended.code == 0
    examples = ended.out.partition("\nExamples:\n")[2].splitlines()
    assert examples
    assert all(example.startswith(("  egec ", f"  {path}")) for example in examples)
    assert any(example.startswith(f"  {path}") for example in examples)


@pytest.mark.parametrize("path", commands())
def test_the_examples_in_the_help_are_valid_command_lines(path: str) -> None:
    command: Any = commands()[path]
    for example in command.epilog.splitlines():
        words = shlex.split(example.partition(" < ")[0].partition(" > ")[0])
        if words[1] == "--env-file":
            del words[1:3]
        assert words[: len(path.split())] == path.split()
        command.make_context(path, words[len(path.split()) :]).close()


def listed_below(egec: Egec, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of everything that the program's help lists, however deep; each must have its own help."""
    ended = egec(*path, "--help")
    assert (ended.code, ended.err) == (0, ""), path
    usage, blank, help_line = ended.out.splitlines()[:3]
    assert usage.startswith(" ".join(["Usage: egec", *path, "[OPTIONS]"])), path
    assert blank == ""
    assert help_line.startswith("  "), path
    # The continuation of a help line is indented further.
    for name in re.findall(r"^  (\w[\w-]*)(?:  |$)", ended.out.partition("\nCommands:\n")[2], flags=re.MULTILINE):
        yield (*path, name)
        yield from listed_below(egec, *path, name)


def test_the_help_leads_to_every_command_and_each_has_help_itself(egec: Egec) -> None:
    listed = {" ".join(["egec", *path]) for path in listed_below(egec)}
    groups = {path.rpartition(" ")[0] for path in commands()} - {"egec"}
    assert listed == {*commands(), *groups}


def test_the_help_line_of_a_command_that_is_loaded_late_is_that_of_its_help() -> None:
    for name, member in ClientGroup.members.items():
        assert first_sentence(commands()[f"egec client {name}"]).startswith(member.help)


@pytest.mark.parametrize("name", root.SUBCOMMANDS)
def test_the_help_line_of_the_root_fits_its_command(name: str) -> None:
    command = get_command(import_module(f"egec_cli.commands.{name}").app)
    stand_in = root.SUBCOMMANDS[name]
    assert first_sentence(command).startswith(stand_in.rstrip("."))


def test_the_first_line_of_the_readmes_first_command_creates_and_activates(tmp_path: Path) -> None:
    command = MANUAL.partition("<!-- first command -->")[2].split("```")[1].removeprefix("sh\n").strip()
    last = command.rpartition("&& ")[2].replace(".venv/bin/egec", f"{sys.executable} -m egec_cli")
    done = subprocess.run(["sh", "-c", last], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "Un courriel a été envoyé" in done.stdout
    mail = Path(done.stderr.split()[-1])
    assert mail.is_file()
    assert "jeanne@example.org" in mail.read_text()


def test_the_continuous_integration_runs_the_readmes_test_command() -> None:
    assert "<!-- test command -->" in (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")


TROUBLESHOOTING = "".join(
    (CHECKOUT / "egec_cli" / "guides" / f"{name}.md").read_text(encoding="utf-8") for name in pages.TROUBLESHOOTING
)
# Only mails have these codes: those of `failure` in `egec client show`.
CODES_OF_MAILS = {"interrupted", "not_sent"}
# Messages of the system and of SQLite, which are quoted too.
MESSAGES_OF_OTHERS = {"No space left on device", "disk I/O error"}


def test_every_error_code_has_its_section_in_troubleshooting() -> None:
    sections = re.findall(r"^### ([a-z0-9_]+)$", TROUBLESHOOTING, flags=re.MULTILINE)
    assert sorted(sections) == sorted({*ERRORS, *CODES_OF_MAILS})


def test_troubleshooting_begins_with_every_exit_code_of_a_failure() -> None:
    listed = re.findall(r"\*\*([0-9]+)\*\*", TROUBLESHOOTING.partition("\n## ")[2].partition("\n## ")[0])
    # The reader of the output closes the pipe on purpose: 141 asks for nothing.
    assert sorted(map(int, listed)) == sorted(set(ExitCode) - {ExitCode.OK, ExitCode.BROKEN_PIPE})


def test_troubleshooting_quotes_messages_as_they_are_printed() -> None:
    with catalogue.PO.open("rb") as file:
        messages = "\n".join(str(message.id) for message in read_po(file))
    quoted = re.findall("“([^”]+)”", " ".join(TROUBLESHOOTING.split()))
    fragments = {part.strip() for quote in quoted for part in re.split("[…:]", quote)} - {"", *MESSAGES_OF_OTHERS}
    assert len(fragments) > 40
    assert [fragment for fragment in sorted(fragments) if fragment not in messages] == []
