"""The options of the root: how much a command prints."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from egec_cli.commands import root
from egec_cli.errors import UsageError
from egec_cli.settings.types import Database
from tests.conftest import Egec
from tests.programs import require_program
from tests.smtp_server import Fault, MailServer

LOGGED = ["at", "action", "outcome", "client", "run", "actor", "host", "details", "ms"]


@pytest.fixture
def jeanne(egec: Egec, location: Database) -> str:
    """Return the identifier of a client."""
    return egec("client", "create", "jeanne@example.org", "--format", "ids").out.strip()


def test_verbose_logs_each_act_in_a_line_on_stderr(egec: Egec, jeanne: str, server: MailServer) -> None:
    ended = egec("--verbose", "activate", jeanne)
    [line] = ended.err.splitlines()
    assert f" credential.issue accepted {jeanne} sequence=1 by " in line
    assert line.endswith(" ms")
    assert ended.out == egec("activate", jeanne).out


def test_the_log_in_json_is_an_object_a_line_with_stable_keys(
    egec: Egec, jeanne: str, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_LOG", "json")
    ended = egec("reissue", "start", "spring", "--all", "--yes", "--format", "json")
    acts = [json.loads(line) for line in ended.err.splitlines()]
    assert [list(act) for act in acts] == [LOGGED] * 3
    assert [(act["action"], act["client"], act["run"]) for act in acts] == [
        ("reissue.start", None, "spring"),
        ("credential.issue", jeanne, "spring"),
        ("reissue.finish", None, "spring"),
    ]
    assert json.loads(ended.out)["accepted"] == 1


def test_the_log_can_be_asked_for_as_text_and_by_the_file(egec: Egec, jeanne: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EGEC_LOG=text\n")
    assert f"client.update updated {jeanne} " in egec("client", "update", jeanne, "--last-name", "X").err
    (tmp_path / ".env").write_text("EGEC_LOG=json\n")
    told = egec("--verbose", "client", "update", jeanne, "--last-name", "Y").err
    assert json.loads(told)["details"] == {"fields": ["last_name"]}


def test_there_is_no_log_by_default(egec: Egec, jeanne: str) -> None:
    assert egec("client", "update", jeanne, "--last-name", "X").err == ""
    assert egec("--verbose", "client", "list").err == ""


def test_a_word_of_the_log_that_has_blanks_is_quoted(egec: Egec, jeanne: str, server: MailServer) -> None:
    ended = egec("--verbose", "reissue", "start", 'a "b', "--all", "--yes")
    assert 'reissue.start recorded run="a \\"b" clients=1 selection=--all by ' in ended.err


def test_a_log_without_a_reader_stops_nothing(egec: Egec, jeanne: str) -> None:
    command = f"{sys.executable} -m egec_cli --verbose client update {jeanne} --last-name X --format ids 2>&1 >out | :"
    subprocess.run([require_program("bash"), "-c", command], timeout=60)
    assert Path("out").read_text() == f"{jeanne}\n"


def test_quiet_prints_nothing_on_success(egec: Egec, jeanne: str, tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text("email;nom;other\nmarc@example.org;Petit;x\n")
    (tmp_path / "left.csv").write_text("marc@example.org\n")
    for command in (
        ("init",),
        ("client", "list"),
        ("client", "show", jeanne),
        ("client", "import", "clients.csv"),
        ("client", "update", jeanne, "--last-name", "X"),
        ("client", "disable", "--from", "left.csv", "--reason", "left"),
        ("activate", jeanne),
        ("reissue", "start", "spring", "--all", "--yes"),
        ("reissue", "status", "spring"),
        ("audit", "list"),
        ("audit", "prune", "--older-than", "1min", "--yes"),
        ("db", "status"),
    ):
        assert egec("--quiet", *command) == (0, "", ""), command
    # The command did its work.
    assert json.loads(egec("client", "show", jeanne, "--format", "json").out)["last_sequence"] == 2
    assert json.loads(egec("client", "show", "marc@example.org", "--format", "json").out)["status"] == "disabled"


def test_quiet_wins_over_the_log_and_contradicts_verbose(
    egec: Egec, jeanne: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_LOG", "json")
    assert egec("--quiet", "activate", jeanne) == (0, "", "")
    assert egec("--quiet", "--verbose", "activate", jeanne).code == 2


def test_quiet_shows_what_a_machine_format_is_asked_for_and_a_password_to_be_shown(egec: Egec, jeanne: str) -> None:
    assert egec("--quiet", "client", "list", "--format", "ids").out == f"{jeanne}\n"
    assert "jeanne@example.org" in egec("--quiet", "client", "export").out
    assert egec("--quiet", "activate", jeanne, "--no-mail", "--show-password").out.startswith(jeanne)
    assert len(egec("--quiet", "password").out) == 10


def test_quiet_still_reports_errors(egec: Egec, jeanne: str, server: MailServer, tmp_path: Path) -> None:
    missing = egec("--quiet", "client", "show", "unknown@example.org")
    assert (missing.code, missing.out) == (67, "")
    assert "unknown@example.org" in missing.err
    (tmp_path / "clients.csv").write_text("email\nno address\n")
    rejected = egec("--quiet", "client", "import", "clients.csv")
    assert (rejected.code, rejected.out) == (3, "")
    assert "clients.csv:2:" in rejected.err
    (tmp_path / "left.csv").write_text(f"{jeanne}\nunknown@example.org\n")
    partly = egec("--quiet", "client", "enable", "--from", "left.csv")
    assert (partly.code, partly.out) == (3, "")
    assert "line 2: unknown client: 'unknown@example.org'" in partly.err
    server.fail_next(Fault.RCPT_550)
    failed = egec("--quiet", "reissue", "start", "spring", "--from", "left.csv", "--yes")
    assert (failed.code, failed.out) == (3, "")
    assert f"client {jeanne} " in failed.err
    assert "left.csv:2:" in failed.err


def test_quiet_reports_a_refused_login_by_the_exit_code_alone(egec_process: Egec, jeanne: str) -> None:
    assert egec_process("--quiet", "verify", jeanne, "--password-stdin", stdin="wrong") == (1, "", "")


def test_one_run_in_a_process_is_not_quiet_because_another_was(egec: Egec, jeanne: str) -> None:
    egec("--quiet", "client", "list")
    assert jeanne in egec("client", "list").out


@pytest.mark.parametrize("language", ["C.UTF-8", "fr_FR.UTF-8"])
@pytest.mark.parametrize("group", ["client", "reissue", "mail", "db", "audit"])
def test_the_help_of_a_group_shows_whole_sentences(egec_process: Egec, group: str, language: str) -> None:
    _, _, listed = egec_process(group, "--help", env={"LANG": language}).out.partition("Options")
    assert "..." not in listed
    assert listed.rstrip().endswith(".")


# --- options that are given twice ---


def commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Yield each command below a group, with the words that name it."""
    members = group.members if hasattr(group, "members") else group.commands
    for name in members:
        command = group.load_command(name) if hasattr(group, "load_command") else group.commands[name]
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield " ".join((*path, name)), command


def sample(parameter: Any) -> str:
    """Return a value that the type of a parameter accepts."""
    return next(iter(getattr(parameter.type, "choices", ())), "1")


def test_an_option_with_one_value_is_refused_if_it_is_given_twice_by_every_command() -> None:
    number = 0
    for path, command in commands(get_command(root.app)):
        required = [one for one in command.params if one.required]
        for option in command.params:
            if option.param_type_name != "option" or option.is_flag or option.multiple:
                continue
            words = [word for one in required if one is not option for word in filled_in(one)]
            twice = [*words, option.opts[0], sample(option), f"{option.opts[0]}={sample(option)}"]
            with pytest.raises(UsageError) as caught:
                command.make_context(path, twice)
            assert str(caught.value) == f"{option.opts[0]} is given more than once", path
            assert caught.value.hint == "Give it once."
            number += 1
    assert number > 100


def filled_in(parameter: Any) -> list[str]:
    value = sample(parameter)
    return [parameter.opts[0], value] if parameter.param_type_name == "option" else [value]


def test_a_second_value_does_not_replace_the_first_one_in_silence(egec: Egec, jeanne: str, tmp_path: Path) -> None:
    twice = ("client", "disable", "--email-domain", "example.org", "--email-domain", "example.com", "--reason", "x")
    ended = egec(*twice, "--yes")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "egec: --email-domain is given more than once\n      Give it once.\n"
    ended = egec(*twice, "--yes", "--format", "jsonl")
    assert (ended.code, json.loads(ended.err)["error"]["code"]) == (2, "usage")
    assert egec("client", "list", "--status", "disabled", "--format", "ids").out == ""
    ended = egec("--env-file", "one.env", "--env-file", "two.env", "client", "list")
    assert (ended.code, ended.err) == (2, "egec: --env-file is given more than once\n      Give it once.\n")


def test_repeated_flags_options_with_many_values_and_help_stay_allowed(egec: Egec, jeanne: str, tmp_path: Path) -> None:
    assert egec("--quiet", "client", "list", "--never-logged-in", "--never-logged-in", "--quiet").code == 0
    (tmp_path / "clients.csv").write_text("Adresse;Famille\nmarc@example.org;Petit\n")
    assert egec("client", "import", "clients.csv", "--map", "Adresse=email", "--map", "Famille=last_name").code == 0
    ended = egec("client", "list", "--status", "new", "--status", "active", "--help")
    assert (ended.code, ended.out.startswith("Usage: egec client list")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("client", "list", "--from"), "Type `egec client list --help`."),
        (("client", "list", "--all=3"), "Type `egec client list --help`."),
        (("--env-file",), "Type `egec --help`."),
    ],
)
def test_an_error_in_an_option_names_the_help_of_its_command(egec: Egec, arguments: tuple[str, ...], hint: str) -> None:
    ended = egec(*arguments)
    assert ended.code == 2
    assert ended.err.splitlines()[1].strip() == hint
