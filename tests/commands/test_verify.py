"""`egec verify`."""

import json

import pytest

from tests.conftest import Egec

REFUSED = "Identifiant et/ou m-d-p non reconnu(s)\n"


@pytest.fixture
def login(egec: Egec) -> tuple[str, str]:
    """Return an identifier and its password."""
    egec("client", "create", "jeanne@example.org")
    shown = egec("activate", "jeanne@example.org", "--no-mail", "--show-password", "--format", "json")
    result = json.loads(shown.out)
    return result["identifier"], result["password"]


def test_the_right_password_is_let_in_without_a_word(egec_process: Egec, login: tuple[str, str]) -> None:
    ended = egec_process("verify", login[0], "--password-stdin", stdin=login[1])
    assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize("wrong", ["", "x", "x" * 100, "é" * 40, "a\0b", "\n"])
def test_a_wrong_password_gets_the_memos_refusal(egec_process: Egec, login: tuple[str, str], wrong: str) -> None:
    ended = egec_process("verify", login[0], "--password-stdin", stdin=wrong)
    assert (ended.code, ended.out, ended.err) == (1, REFUSED, "")


@pytest.mark.parametrize("identifier", ["1111111111", "abc", "٣٣٣٣٣٣٣٣٣٣", "0123456789"])
def test_an_unknown_identifier_gets_the_very_same_refusal(
    egec_process: Egec, login: tuple[str, str], identifier: str
) -> None:
    ended = egec_process("verify", identifier, "--password-stdin", stdin=login[1])
    assert (ended.code, ended.out, ended.err) == (1, REFUSED, "")


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u202f", "\u200b", "\ufeff", " \u200b \u00a0"])
def test_blanks_pasted_around_either_part_do_not_matter(egec_process: Egec, login: tuple[str, str], blank: str) -> None:
    padded = f"{blank}{login[0]}{blank}\n{blank}{login[1]}{blank}\n"
    assert egec_process("verify", "--stdin", stdin=padded).code == 0


def test_case_always_counts(egec_process: Egec, login: tuple[str, str]) -> None:
    assert egec_process("verify", login[0], "--password-stdin", stdin=login[1].lower()).code == 1


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nmore\n"])
def test_stdin_ends_at_the_first_line_end_if_any(egec_process: Egec, login: tuple[str, str], ending: str) -> None:
    assert egec_process("verify", login[0], "--password-stdin", stdin=login[1] + ending).code == 0
    assert egec_process("verify", "--stdin", stdin=f"{login[0]}\n{login[1]}{ending}").code == 0


@pytest.mark.parametrize("hostile", [b"", b"\xff\xfe", b"\0" * 600, b"x" * 100_000, b"\n\n\n"])
def test_hostile_input_is_refused_and_never_crashes(egec_process: Egec, login: tuple[str, str], hostile: bytes) -> None:
    assert egec_process("verify", "--stdin", stdin=hostile).code == 1
    assert egec_process("verify", login[0], "--password-stdin", stdin=hostile).code == 1


def test_json_has_the_verdict(egec_process: Egec, login: tuple[str, str]) -> None:
    good = egec_process("verify", login[0], "--password-stdin", "--format", "json", stdin=login[1])
    bad = egec_process("verify", login[0], "--password-stdin", "--format", "json", stdin="x")
    assert (good.code, json.loads(good.out)) == (0, {"accepted": True})
    assert (bad.code, json.loads(bad.out)) == (1, {"accepted": False})


@pytest.mark.parametrize("arguments", [(), ("1234567890",), ("1234567890", "--stdin"), ("--stdin", "--password-stdin")])
def test_without_a_way_to_get_the_password_it_is_a_wrong_command_line(
    egec_process: Egec, login: tuple[str, str], arguments: tuple[str, ...]
) -> None:
    assert egec_process("verify", *arguments).code == 2


def test_a_login_is_remembered(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    assert json.loads(egec("client", "show", login[0], "--format", "json").out)["last_login_at"] is None
    egec_process("verify", login[0], "--password-stdin", stdin=login[1])
    assert json.loads(egec("client", "show", login[0], "--format", "json").out)["last_login_at"] is not None
