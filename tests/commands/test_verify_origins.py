"""`egec verify` with the origin of a login: a third line, PAM_RHOST, TCPREMOTEIP, a column of a list."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Egec
from tests.screens.emulator import PROGRAM, see

REFUSED = "Identifiant et/ou m-d-p non reconnu(s)\n"


@pytest.fixture
def login(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Return an identifier and its password, where a network may fail twice an hour."""
    monkeypatch.setenv("EGEC_FAILURES_PER_ORIGIN", "2/h")
    egec("client", "create", "jeanne@example.org")
    shown = egec("activate", "jeanne@example.org", "--no-mail", "--show-password", "--format", "json")
    result = json.loads(shown.out)
    return result["identifier"], result["password"]


def origins(egec: Egec) -> list[str | None]:
    """Return the recorded origins of all logins, oldest first."""
    listed = egec("audit", "list", "--action", "login", "--format", "jsonl").out.splitlines()
    return [json.loads(line)["details"].get("origin") for line in listed]


def test_the_third_line_of_standard_input_is_the_origin(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    for origin, code in (("192.0.2.1", 1), ("::ffff:192.0.2.2\r\n", 1), ("192.0.2.3", 1), ("198.51.100.1", 0), ("", 0)):
        password = login[1] if code == 0 or origin == "192.0.2.3" else "wrong"
        ended = egec_process("verify", "--stdin", stdin=f"{login[0]}\n{password}\n{origin}")
        assert (ended.code, ended.out, ended.err) == (code, REFUSED if code else "", "")
    first, second, third, fourth, fifth = origins(egec)
    assert first == second == third != fourth
    assert fifth is None


@pytest.mark.parametrize("more", ["portal.example.org\n", "192.0.2.1\n192.0.2.2\n", "x\n192.0.2.1\n"])
def test_a_login_with_another_third_line_or_more_lines_is_not_checked(
    egec: Egec, egec_process: Egec, login: tuple[str, str], more: str
) -> None:
    ended = egec_process("verify", "--stdin", "--format", "json", stdin=f"{login[0]}\n{login[1]}\n{more}")
    assert (ended.code, ended.out) == (65, "")
    assert json.loads(ended.err)["error"]["code"] == "invalid_origin"
    assert origins(egec) == []


@pytest.mark.parametrize("lines", [2, 3])
def test_a_caller_that_keeps_the_input_open_gets_its_verdict(login: tuple[str, str], lines: int) -> None:
    command = [sys.executable, "-m", "egec_cli", "verify", "--stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("\n".join([*login, "192.0.2.1"][:lines]).encode() + b"\n")
        process.stdin.flush()
        assert process.wait(timeout=30) == 0


def test_lines_may_come_one_by_one(egec: Egec, login: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "egec_cli", "verify", "--stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        for line in (login[0], login[1]):
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
        process.stdin.write(b"192.0.2.1")
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert origins(egec) != [None]


def test_pam_passes_the_origin_which_may_be_a_host_name(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    for host, password, code in (
        ("mail.example.org", "wrong", 1), ("MAIL.example.org", "wrong", 1), ("mail.example.org", login[1], 1),
        ("192.0.2.7", login[1], 0), ("", login[1], 0),
    ):  # fmt: skip
        ended = egec_process("verify", "--pam", stdin=password, env={"PAM_USER": login[0], "PAM_RHOST": host})
        assert (ended.code, ended.out) == (code, ""), host
    assert len(set(origins(egec))) == 3


def test_checkpassword_passes_the_origin(egec: Egec, login: tuple[str, str]) -> None:
    Path("wrong").write_bytes(f"{login[0]}\0wrong\0".encode())
    Path("right").write_bytes(f"{login[0]}\0{login[1]}\0".encode())
    command = f"{sys.executable} -m egec_cli verify --checkpassword true 3<"
    for file, address, code in (("wrong", 1, 1), ("wrong", 2, 1), ("right", 3, 1)):
        line = f"TCPREMOTEIP=192.0.2.{address} {command} {file}"
        assert subprocess.run(["sh", "-c", line], capture_output=True, timeout=60).returncode == code
    assert subprocess.run(["sh", "-c", f"TCPREMOTEIP=198.51.100.1 {command} right"], timeout=60).returncode == 0
    assert len(set(origins(egec))) == 2


@pytest.mark.parametrize(
    "form",
    [
        "identifiant;mot de passe;ip\n{id};wrong;192.0.2.1\n{id};wrong;192.0.2.2\n{id};{pw};192.0.2.3\n{id};{pw};\n",
        'origin,identifier,password\n192.0.2.1,{id},wrong\n192.0.2.1,{id},wrong\n192.0.2.9,{id},{pw}\n"",{id},{pw}\n',
        '{{"identifier": "{id}", "password": "wrong", "origin": "192.0.2.1"}}\n'
        '{{"identifier": "{id}", "password": "wrong", "origin": "192.0.2.1"}}\n'
        '{{"identifier": "{id}", "password": "{pw}", "origin": "192.0.2.1"}}\n'
        '{{"identifier": "{id}", "password": "{pw}", "origin": null}}\n',
    ],
    ids=["French", "English", "objects"],
)
def test_a_list_has_the_origin_in_a_column(egec: Egec, egec_process: Egec, login: tuple[str, str], form: str) -> None:
    text = form.format(id=login[0], pw=login[1].replace('"', '\\"'))
    ended = egec_process("verify", "--batch", "-", "--format", "jsonl", stdin=text)
    assert [json.loads(line)["accepted"] for line in ended.out.splitlines()] == [False, False, False, True]
    assert (ended.code, origins(egec)[-1]) == (3, None)


def test_a_list_without_a_header_has_no_origins(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    ended = egec_process("verify", "--batch", "-", stdin=f"{login[0]};{login[1]};192.0.2.1\n")
    assert (ended.code, origins(egec)) == (0, [None])


def test_an_origin_in_a_list_that_is_no_address_ends_it_with_its_line(
    egec_process: Egec, login: tuple[str, str]
) -> None:
    text = f"identifier,password,ip\n{login[0]},x,192.0.2.1\n{login[0]},x,portal\n"
    ended = egec_process("verify", "--batch", "-", "--format", "jsonl", stdin=text)
    assert (ended.code, len(ended.out.splitlines())) == (65, 1)
    assert "standard input:3: the origin is not an IP address" in ended.err


def test_the_help_desk_reads_the_number_of_origins(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    for number in range(6):
        egec_process("verify", "--stdin", stdin=f"{login[0]}\nwrong\n10.0.{number}.1\n")
    told = egec_process("verify", login[0], "--password-stdin", "--explain", stdin=login[1])
    assert "failed logins from 6 origins" in told.out
    record = json.loads(egec("client", "show", login[0], "--format", "json").out)
    assert (record["failed_logins"], record["failure_origins"]) == (5, 6)
    assert "failure_origins  6" in egec("client", "show", login[0]).out
    seen = see([*PROGRAM, "client", "show", login[0]], columns=120)
    assert "after 5 failed logins, from 6 origins" in seen.text


def test_the_history_shows_requests_in_words(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    for _ in range(2):
        egec_process("activate", "--stdin", stdin="jeanne@example.org\n192.0.2.1\n")
    seen = see([*PROGRAM, "client", "show", login[0]], columns=120)
    assert "password requested at the portal" in seen.text
    assert "request 1 beyond the limit changed nothing" in seen.text
