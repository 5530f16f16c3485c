"""How an operator names a client: at a terminal also by a part of a name or e-mail, in a script exactly."""

import json

import pytest

from tests.commands.test_client_listing import at_terminal
from tests.conftest import Egec
from tests.screens.emulator import PROGRAM, Seen, see


@pytest.fixture
def marc(egec: Egec) -> str:
    """Return the identifier of one of three clients."""
    egec("client", "create", "anne-marie@example.org", "--last-name", "Petitjean")
    egec("client", "create", "jeanne@example.org", "--last-name", "Dupont", "--reference", "D-1")
    made = egec("client", "create", "marc@example.com", "--last-name", "Petit", "--format", "json")
    return str(json.loads(made.out)["identifier"])


def shown(egec: Egec, *arguments: str) -> dict[str, object]:
    record: dict[str, object] = json.loads(egec("client", "show", *arguments, "--format", "json").out)
    return record


def typed(*arguments: str, answer: str = "") -> Seen:
    """Type a command at a terminal, and answer its question."""
    return see([*PROGRAM, *arguments], typed=answer)


CHANGES = {
    "client update": ("--last-name", "Durand"),
    "client disable": ("--reason", "left"),
    "client enable": (),
    "client unblock": (),
    "client erase": (),
    "activate": (),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_client_named_by_a_part_asks_and_a_no_changes_nothing(egec: Egec, marc: str, change: str) -> None:
    before = shown(egec, marc)
    seen = typed(*change.split(), "marc@exam", *CHANGES[change], answer="n\n")
    assert seen.code == 1
    assert f"Petit, marc@example.com, {marc}" in seen.lines[0]
    assert shown(egec, marc) == before


def test_a_yes_changes_the_client_that_was_shown(egec: Egec, marc: str) -> None:
    assert typed("client", "update", "marc@exam", "--first-name", "Marc", answer="y\n").code == 0
    assert shown(egec, marc)["first_name"] == "Marc"


@pytest.mark.parametrize("change", [*CHANGES, "client show", "mail preview"])
def test_a_script_has_to_name_a_client_exactly(egec: Egec, egec_process: Egec, marc: str, change: str) -> None:
    before = shown(egec, marc)
    confirmed = ["--yes"] if change == "client erase" else []
    ended = egec_process(*change.split(), "marc@exam", *CHANGES.get(change, ()), *confirmed)
    assert ended.code == 67
    assert shown(egec, marc) == before


def test_a_script_may_name_a_part_with_match(egec: Egec, egec_process: Egec, marc: str) -> None:
    ended = egec_process("client", "update", "marc", "--match", "--first-name", "Marc", "--format", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["identifier"] == marc
    assert f"Petit, marc@example.com, {marc}" in ended.err
    assert egec_process("audit", "list", "--client", "marc", "--match", "--format", "ids").out
    assert egec_process("audit", "list", "--client", "marc").code == 67


def test_several_matches_are_listed_on_stderr_and_nothing_is_done(egec: Egec, egec_process: Egec, marc: str) -> None:
    ended = egec_process("activate", "petit", "--match")
    assert (ended.code, ended.out) == (67, "")
    header, first, second, error = ended.err.splitlines()[:4]
    assert header.split() == ["identifier", "email", "reference", "civility", "last_name", "first_name"]
    assert "Petit" in first
    assert "Petitjean" in second
    assert error == "egec: 'petit' matches 2 clients"
    assert shown(egec, marc)["last_sequence"] == 0


def test_a_program_learns_the_identifiers_of_several_matches(egec: Egec, egec_process: Egec, marc: str) -> None:
    ended = egec_process("client", "show", "petit", "--match", "--format", "json")
    assert (ended.code, ended.out) == (67, "")
    error = json.loads(ended.err)["error"]
    assert error["code"] == "ambiguous_client"
    assert marc in error["hint"]


def test_erasing_without_a_question_needs_the_exact_client_at_a_terminal_too(egec: Egec, marc: str) -> None:
    assert at_terminal("client", "erase", "marc@exam", "--yes")[0] == 67
    assert shown(egec, marc)["email"] == "marc@example.com"
    code, seen = at_terminal("client", "erase", "marc@exam", "--yes", "--match")
    assert code == 0
    assert f"Petit, marc@example.com, {marc}" in seen
    assert shown(egec, marc)["email"] is None


def test_output_to_a_pipe_counts_as_a_script(egec: Egec, marc: str) -> None:
    seen = see(["sh", "-c", f"{' '.join(PROGRAM)} client show marc@exam | cat"])
    assert "no client has the e-mail 'marc@exam'" not in seen.text
    assert "invalid e-mail address" in seen.text


@pytest.mark.parametrize("name", ["marc@example.com", "marc@exam", "D-1"])
def test_verify_takes_every_form_at_a_terminal(egec: Egec, marc: str, name: str) -> None:
    password = egec("activate", marc, "--no-mail", "--show-password").out.split()[1]
    is_right = name != "D-1"
    assert typed("verify", name, answer=f"{password}\n").code == (0 if is_right else 1)


def test_verify_refuses_whom_it_does_not_know_as_it_refuses_a_wrong_password(egec: Egec, marc: str) -> None:
    wrong = typed("verify", marc, answer="x\n")
    unknown = typed("verify", "nobody@example.org", answer="x\n")
    assert (unknown.code, unknown.lines) == (wrong.code, wrong.lines) == (1, wrong.lines)


def test_a_program_that_asks_for_a_login_has_to_give_the_identifier(egec: Egec, egec_process: Egec, marc: str) -> None:
    password = egec("activate", marc, "--no-mail", "--show-password").out.split()[1]
    assert egec_process("verify", marc, "--password-stdin", stdin=password).code == 0
    assert egec_process("verify", "marc@example.com", "--password-stdin", stdin=password).code == 1
    assert egec_process("verify", "--stdin", stdin=f"marc@example.com\n{password}\n").code == 1


@pytest.mark.parametrize("options", [(), ("--batch", "x"), ("--checkpassword", "true")])
def test_no_count_needs_explain(egec: Egec, marc: str, options: tuple[str, ...]) -> None:
    ended = egec("verify", "--no-count", *(options or (marc, "--password-stdin")))
    assert ended.code == 2
    assert "--explain" in ended.err


def test_a_test_with_no_count_uses_up_no_attempt(egec: Egec, egec_process: Egec, marc: str) -> None:
    password = egec("activate", marc, "--no-mail", "--show-password").out.split()[1]
    for _ in range(12):
        ended = egec_process("verify", marc, "--password-stdin", "--explain", "--no-count", stdin=password.swapcase())
        assert "capitals_swapped" in ended.out
    assert (shown(egec, marc)["failed_logins"], shown(egec, marc)["status"]) == (0, "active")
    events = json.loads(egec("audit", "list", "--action", "login", "--client", marc, "--format", "json").out)
    assert [one["details"] for one in events] == [{"counted": False}] * 12
