"""`egec verify`."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from egec_cli.commands import verify_fast
from egec_cli.context import open_context
from egec_cli.logins import limits
from egec_cli.settings import load
from egec_cli.settings.schema import SETTINGS
from egec_cli.store.models import Client, LoginPlace
from tests.conftest import Egec, Ended
from tests.processes import egec_after, replace
from tests.programs import require_program

REFUSED = "Identifiant et/ou m-d-p non reconnu(s)\n"


@pytest.fixture
def login(egec: Egec) -> tuple[str, str]:
    """Return an identifier and its password."""
    egec("client", "create", "jeanne@example.org")
    shown = egec("activate", "jeanne@example.org", "--no-mail", "--show-password", "--format", "json")
    result = json.loads(shown.out)
    return result["identifier"], result["password"]


def test_the_right_password_is_accepted_without_output(egec_process: Egec, login: tuple[str, str]) -> None:
    ended = egec_process("verify", login[0], "--password-stdin", stdin=login[1])
    assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize("wrong", ["", "x", "x" * 100, "é" * 40, "a\0b", "\n"])
def test_a_wrong_password_gets_the_refusal_of_the_memo(egec_process: Egec, login: tuple[str, str], wrong: str) -> None:
    ended = egec_process("verify", login[0], "--password-stdin", stdin=wrong)
    assert (ended.code, ended.out, ended.err) == (1, REFUSED, "")


@pytest.mark.parametrize("identifier", ["1111111111", "abc", "٣٣٣٣٣٣٣٣٣٣", "0123456789"])
def test_an_unknown_identifier_gets_the_same_refusal(
    egec_process: Egec, login: tuple[str, str], identifier: str
) -> None:
    ended = egec_process("verify", identifier, "--password-stdin", stdin=login[1])
    assert (ended.code, ended.out, ended.err) == (1, REFUSED, "")


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u202f", "\u200b", "\ufeff", " \u200b \u00a0"])
def test_white_space_around_identifier_and_password_is_ignored(
    egec_process: Egec, login: tuple[str, str], blank: str
) -> None:
    padded = f"{blank}{login[0]}{blank}\n{blank}{login[1]}{blank}\n"
    assert egec_process("verify", "--stdin", stdin=padded).code == 0


@pytest.mark.parametrize("password", ["right", "wrong"])
@pytest.mark.parametrize("words", [["{}", "--password-stdin"], ["--password-stdin", "{}"], ["--stdin"], ["--pam"]])
def test_the_fast_path_for_programs_answers_like_the_full_parser(
    egec_process: Egec, login: tuple[str, str], words: list[str], password: str
) -> None:
    asked = [word.format(login[0]) for word in words]
    stdin = (f"{login[0]}\n" if asked == ["--stdin"] else "") + (login[1] if password == "right" else "x")
    short = egec_process("verify", *asked, stdin=stdin, env={"PAM_USER": login[0]})
    full = egec_process("verify", "--format", "table", *asked, stdin=stdin, env={"PAM_USER": login[0]})
    assert short == full
    assert short.code == (0 if password == "right" else 1)


@pytest.mark.parametrize("identifier", ["--no-such-option", "--help", "-", "--"])
def test_an_identifier_that_starts_like_an_option_goes_to_the_full_parser(
    egec_process: Egec, login: tuple[str, str], identifier: str
) -> None:
    short = egec_process("verify", identifier, "--password-stdin")
    assert short == egec_process("verify", "--format", "table", identifier, "--password-stdin")
    assert short.code == (0 if identifier == "--help" else 1 if identifier == "-" else 2)


def test_case_matters(egec_process: Egec, login: tuple[str, str]) -> None:
    assert egec_process("verify", login[0], "--password-stdin", stdin=login[1].lower()).code == 1


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nmore\n"])
def test_the_password_ends_at_the_first_line_end(egec_process: Egec, login: tuple[str, str], ending: str) -> None:
    assert egec_process("verify", login[0], "--password-stdin", stdin=login[1] + ending).code == 0
    # A third line is the origin, which must be an address.
    code = 65 if "more" in ending else 0
    assert egec_process("verify", "--stdin", stdin=f"{login[0]}\n{login[1]}{ending}").code == code


@pytest.mark.parametrize("hostile", [b"", b"\xff\xfe", b"\0" * 600, b"x" * 100_000, b"\n\n\n"])
def test_hostile_input_is_refused_and_never_crashes(egec_process: Egec, login: tuple[str, str], hostile: bytes) -> None:
    assert egec_process("verify", "--stdin", stdin=hostile).code == 1
    assert egec_process("verify", login[0], "--password-stdin", stdin=hostile).code == 1


def test_json_contains_the_verdict(egec_process: Egec, login: tuple[str, str]) -> None:
    good = egec_process("verify", login[0], "--password-stdin", "--format", "json", stdin=login[1])
    bad = egec_process("verify", login[0], "--password-stdin", "--format", "json", stdin="x")
    assert (good.code, json.loads(good.out)) == (0, {"accepted": True})
    assert (bad.code, json.loads(bad.out)) == (1, {"accepted": False})


@pytest.mark.parametrize("arguments", [(), ("1234567890",), ("1234567890", "--stdin"), ("--stdin", "--password-stdin")])
def test_a_command_line_without_a_source_of_the_password_is_refused(
    egec_process: Egec, login: tuple[str, str], arguments: tuple[str, ...]
) -> None:
    assert egec_process("verify", *arguments).code == 2


def test_a_password_as_an_argument_is_refused_with_the_way_to_pass_it(egec: Egec) -> None:
    ended = egec("verify", "1234567890", "fG69a*6jH")
    assert ended.code == 2
    assert "--password-stdin" in ended.err
    assert "fG69a*6jH" not in ended.err


def test_a_login_is_recorded(egec: Egec, egec_process: Egec, login: tuple[str, str]) -> None:
    assert json.loads(egec("client", "show", login[0], "--format", "json").out)["last_login_at"] is None
    egec_process("verify", login[0], "--password-stdin", stdin=login[1])
    assert json.loads(egec("client", "show", login[0], "--format", "json").out)["last_login_at"] is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--stdin", "--pam"),
        ("--stdin", "--batch", "-"),
        ("--pam", "--checkpassword", "true"),
        ("--checkpassword", "--batch", "-", "true"),
        ("--checkpassword",),
        ("--checkpassword", "--explain", "true"),
        ("--batch", "-", "--explain"),
        ("1234567890", "--pam"),
        ("1234567890", "--batch", "-"),
        ("1234567890", "5079512743", "--password-stdin"),
        ("--no-such-option",),
    ],
)
def test_contradicting_options_are_refused(
    egec_process: Egec, login: tuple[str, str], arguments: tuple[str, ...]
) -> None:
    ended = egec_process("verify", *arguments, stdin=f"{login[0]}\n{login[1]}\n")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err


@pytest.mark.parametrize("ending", ["", "\n", "\0"])
def test_pam_accepts_without_output(egec_process: Egec, login: tuple[str, str], ending: str) -> None:
    ended = egec_process("verify", "--pam", stdin=login[1] + ending, env={"PAM_USER": login[0]})
    assert (ended.code, ended.out, ended.err) == (0, "", "")


HOSTILE = {
    "nothing": b"",
    "a NUL": b"\0",
    "a NUL within": b"fG69\0a*6j",
    "no text": b"\xff\xfe",
    "4096 bytes": b"x" * 4096,
    "many bytes": b"x" * 100_000,
    "line ends": b"\n\n",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_pam_refuses_invalid_input_without_output(egec_process: Egec, login: tuple[str, str], hostile: bytes) -> None:
    ended = egec_process("verify", "--pam", stdin=hostile, env={"PAM_USER": login[0]})
    assert (ended.code, ended.out, ended.err) == (1, "", "")


@pytest.mark.parametrize("user", ["", "abc", "٣٣٣٣٣٣٣٣٣٣", "5079512743\n", "\udcff", "x" * 50_000])
def test_pam_refuses_invalid_users(egec_process: Egec, login: tuple[str, str], user: str) -> None:
    assert egec_process("verify", "--pam", stdin=login[1], env={"PAM_USER": user}).code == 1


def test_pam_refuses_a_missing_user(egec_process: Egec, login: tuple[str, str]) -> None:
    assert egec_process("verify", "--pam", stdin=login[1]).code == 1


@pytest.mark.parametrize("arguments", ["verify --stdin", "verify --pam", "verify 1234567890 --password-stdin"])
@pytest.mark.parametrize("redirected", ["0<&-", "0>written"])
def test_an_unreadable_standard_input_is_refused(login: tuple[str, str], arguments: str, redirected: str) -> None:
    command = f"{sys.executable} -m egec_cli {arguments} {redirected}"
    environment = {**os.environ, "PAM_USER": login[0]}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.startswith("egec: standard input")


# A value that each setting refuses.
WRONG = {
    "EGEC_MAIL_URL": "x", "EGEC_MAIL_RATE": "abc", "EGEC_DKIM_KEY_FILE": "/missing", "EGEC_TEMPLATES": "/missing",
    "EGEC_AUDIT_DAYS": "x", "EGEC_REQUESTS_PER_CLIENT": "x", "EGEC_PASSWORD_SPECIALS": "aa",
    "EGEC_UNUSED_PASSWORD_DAYS": "x", "EGEC_SHARED_EMAIL": "x",
}  # fmt: skip


@pytest.mark.parametrize(("name", "form"), [*((name, "--stdin") for name in WRONG), ("EGEC_MAIL_URL", "--batch -")])
def test_a_wrong_setting_that_no_login_uses_stops_no_login(
    egec_process: Egec, login: tuple[str, str], monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    monkeypatch.setenv(name, WRONG[name])
    for password, code in ((login[1], 0), (login[1].swapcase(), 1)):
        if form == "--stdin":
            ended = egec_process("verify", "--stdin", stdin=f"{login[0]}\n{password}\n")
        else:
            ended = egec_process("verify", *form.split(), stdin=f"{login[0]},{password}\n")
            code *= 3
        assert ended.code == code
        assert ended.err.startswith(f"egec: warning: {name} ")
    assert egec_process("client", "list").code == 78


@pytest.mark.parametrize(
    ("name", "value"),
    [("EGEC_BLOCK_HOURS", "x"), ("EGEC_FAILURES_PER_ORIGIN", "x"), ("EGEC_BCRYPT_COST", "x"), ("EGEC_TIMEZONE", "x"),
     ("EGEC_ACTOR", "a\nb"), ("EGEC_LOG", "x")],
)  # fmt: skip
def test_a_wrong_setting_that_logins_use_stops_them(
    egec_process: Egec, login: tuple[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert egec_process("verify", "--stdin", stdin="\n".join(login)).code == 78


def test_the_settings_that_no_login_uses_exist() -> None:
    names = [setting.name for setting in SETTINGS]
    assert [start for start in verify_fast._UNUSED if not any(name.startswith(start) for name in names)] == []


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "1>/dev/full"])
def test_closed_descriptors_never_accept_a_wrong_password_nor_crash(login: tuple[str, str], closed: str) -> None:
    command = f"echo x | {sys.executable} -m egec_cli verify {login[0]} --password-stdin {closed}"
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode in {1, 65, 74}


def test_explain_gives_the_reason_as_a_stable_code(egec_process: Egec, login: tuple[str, str]) -> None:
    def explained(password: str) -> tuple[int, dict[str, object]]:
        given = f"{login[0]}\n{password}\n"
        ended = egec_process("verify", "--stdin", "--explain", "--format", "json", stdin=given)
        assert ended.err == ""
        return ended.code, json.loads(ended.out)

    good, bad = explained(login[1]), explained(login[1].swapcase())
    assert good == (0, {"accepted": True, "reason": "accepted", "hint": "The identifier and the password are correct."})
    assert bad[0] == 1
    assert list(bad[1]) == ["accepted", "reason", "hint"]
    assert (bad[1]["accepted"], bad[1]["reason"]) == (False, "capitals_swapped")


def test_explain_prints_a_table_for_people(egec_process: Egec, login: tuple[str, str]) -> None:
    ended = egec_process("verify", login[0], "--password-stdin", "--explain", stdin="wrong")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out == (
        "accepted  False\nreason    wrong_length\nhint      A password has 9 characters; 5 were typed.\n"
    )


def batch(egec_process: Egec, text: str | bytes, form: str = "jsonl") -> tuple[int, list[tuple[str, int, bool]], str]:
    ended = egec_process("verify", "--batch", "-", "--format", form, stdin=text)
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert all(list(row) == ["identifier", "line", "accepted"] for row in rows)
    return ended.code, [tuple(row.values()) for row in rows], ended.err


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "identifier{0}password", "\ufeffIdentifiant{0}Mot de passe", " "])
def test_a_list_of_cells_is_verified(egec_process: Egec, login: tuple[str, str], delimiter: str, header: str) -> None:
    text = "\r\n".join([*([header.format(delimiter)] if header else []), delimiter.join(login), ""])
    assert batch(egec_process, text) == (0, [(login[0], 2 if header else 1, True)], "")


def test_a_header_names_the_columns_of_identifier_and_password(egec_process: Egec, login: tuple[str, str]) -> None:
    text = f"password;email;identifier\n{login[1]};jeanne@example.org;{login[0]}\n"
    assert batch(egec_process, text) == (0, [(login[0], 2, True)], "")


def test_a_list_of_objects_is_verified(egec_process: Egec, login: tuple[str, str]) -> None:
    rows = [{"identifier": login[0], "password": login[1]}, {"identifier": int(login[0]), "password": login[1]}]
    text = "\n" + "\n\n".join(map(json.dumps, rows))
    assert batch(egec_process, text) == (0, [(login[0], 2, True), (login[0], 4, True)], "")


def test_a_list_with_refusals_ends_with_3(egec_process: Egec, login: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "logins.csv").write_text(f"{login[0]},{login[1]}\n1111111111,x\n{login[0]},x\nabc,x\n")
    ended = egec_process("verify", "--batch", "logins.csv")
    assert (ended.code, ended.err) == (3, "")
    assert ended.out.splitlines() == [
        "identifier  line  accepted",
        f"{login[0]}  1     True",
        "1111111111  2     False",
        f"{login[0]}  3     False",
        "            4     False",
    ]


def test_an_empty_list_is_accepted(egec_process: Egec, login: tuple[str, str]) -> None:
    assert batch(egec_process, "") == batch(egec_process, "\n\n") == (0, [], "")


def test_a_missing_list_is_reported(egec_process: Egec, login: tuple[str, str]) -> None:
    ended = egec_process("verify", "--batch", "no-such-file")
    assert (ended.code, ended.out) == (74, "")
    assert "no-such-file" in ended.err


def test_verdicts_keep_the_order_of_the_list_however_long_each_takes(
    egec: Egec, egec_process: Egec, login: tuple[str, str]
) -> None:
    egec("client", "create", "marc@example.org")
    os.environ["EGEC_BCRYPT_COST"] = "11"
    slow = json.loads(egec("activate", "marc@example.org", "--no-mail", "--show-password", "--format", "json").out)
    os.environ["EGEC_BCRYPT_COST"] = "4"
    logins = [
        (slow["identifier"], slow["password"]),
        *[("1111111111", "x")] * 9,
        login,
        (slow["identifier"], "x"),
        login,
    ]
    text = "".join(f"{identifier};{password}\n" for identifier, password in logins)
    code, verdicts, _ = batch(egec_process, text)
    assert code == 3
    assert [line for _, line, _ in verdicts] == list(range(1, 14))
    assert [line for _, line, accepted in verdicts if accepted] == [1, 11, 13]


def test_logins_to_one_account_are_checked_one_after_the_other(egec_process: Egec, login: tuple[str, str]) -> None:
    text = "".join(f"{login[0]};{password}\n" for password in [*["wrong"] * 4, login[1], *["wrong"] * 5, login[1]])
    _, verdicts, _ = batch(egec_process, text)
    assert [line for _, line, accepted in verdicts if accepted] == [5]


BAD_LINES = {
    "one cell": b"fG69a*6jH",
    "a line end of old Macintoshes": b"fG69a*6jH\rfG69a*6jH,x",
    "a long line": b"fG69a*6jH," + b"x" * 5000,
}


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "ids"])
@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_an_invalid_line_ends_the_list_after_the_earlier_verdicts(
    egec_process: Egec, login: tuple[str, str], bad: bytes, form: str
) -> None:
    first = f"{login[0]},{login[1]}\n".encode()
    given = first * 2 + bad + b"\n" + first
    ended = egec_process("verify", "--batch", "-", "--format", form, stdin=given)
    assert ended.code == 65
    assert ended.out.count(login[0]) == 2
    assert form != "json" or len(json.loads(ended.out)) == 2
    assert "standard input:3: invalid login" in ended.err
    assert "fG69a" not in ended.out + ended.err


BAD_OBJECTS = [
    '{"identifier": 1}',
    '{"identifier": null, "password": null}',
    '{"identifier": "1", "password": 1}',
    "{",
    "[]",
]


@pytest.mark.parametrize("bad", BAD_OBJECTS)
def test_an_invalid_object_ends_the_list(egec_process: Egec, login: tuple[str, str], bad: str) -> None:
    code, verdicts, _ = batch(egec_process, json.dumps({"identifier": login[0], "password": login[1]}) + f"\n{bad}\n")
    assert (code, verdicts) == (65, [(login[0], 1, True)])


class Conversation:
    """A `verify --batch -` process that gets one login at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "egec_cli", "verify", "--batch", "-", "--format", "jsonl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> dict[str, object]:
        """Give one login, and wait for its verdict."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer: dict[str, object] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> Ended:
        out, err = self.process.communicate(timeout=60)
        return Ended(self.process.returncode, out, err)


def test_a_verdict_comes_before_the_next_login_is_given(login: tuple[str, str]) -> None:
    talk = Conversation()
    assert talk.ask(f"{login[0]},{login[1]}")["accepted"] is True
    assert talk.ask(f"{login[0]},wrong")["accepted"] is False
    assert talk.ask(f"{login[0]},{login[1]}")["accepted"] is True
    assert talk.end().code == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_list_that_never_ends_can_be_interrupted(login: tuple[str, str], number: int, code: int) -> None:
    talk = Conversation()
    talk.ask(f"{login[0]},{login[1]}")
    talk.process.send_signal(number)
    began = time.monotonic()
    talk.process.wait(timeout=60)
    assert time.monotonic() - began < 30
    assert talk.end().code == code


def test_logins_under_way_when_the_reader_ends_are_not_failures(
    egec: Egec, egec_process: Egec, login: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "logins.csv").write_text(
        f"{login[0]},{login[1]}\n" + "1111111111,x\n" * 50 + f"{login[0]},{login[1]}\n" * 30
    )
    command = f"{sys.executable} -m egec_cli verify --batch logins.csv --format jsonl | head -n 3"
    subprocess.run([require_program("bash"), "-c", command], capture_output=True, check=True, timeout=60)
    assert egec_process("verify", login[0], "--password-stdin", stdin=login[1]).code == 0
    with open_context(load.load_settings()):
        assert Client.get().failed_logins == 0


@pytest.fixture
def busy(login: tuple[str, str]) -> str:
    """Take all five places of the account; return its identifier."""
    with open_context(load.load_settings()) as context:
        for _ in range(limits.FAILURES_BEFORE_WAIT):
            limits.try_place(context, Client.get().id)
    return login[0]


def run_impatient(arguments: str, given: str, *, identifier: str = "") -> subprocess.CompletedProcess[str]:
    """Run `egec verify` as a process that waits only briefly for a place."""
    Path("given").write_text(given)
    impatient = shlex.join([*egec_after(replace(limits, "PATIENCE", 0.1)), "verify"])
    command = f"exec {impatient} {arguments} 0< given 3< given"
    environment = {**os.environ, "PAM_USER": identifier}
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "given", "code"),
    [
        ("--stdin", "{0}\n{1}\n", 75),
        ("{0} --password-stdin", "{1}\n", 75),
        ("--stdin --explain", "{0}\n{1}\n", 75),
        ("--pam", "{1}", 75),
        ("--checkpassword -- echo welcome", "{0}\0{1}\0", 111),
    ],
)
def test_a_right_login_that_gets_no_place_is_a_temporary_failure(
    login: tuple[str, str], busy: str, arguments: str, given: str, code: int
) -> None:
    done = run_impatient(arguments.format(*login), given.format(*login), identifier=busy)
    assert (done.returncode, done.stdout) == (code, "")
    assert "too many logins to this account are in progress" in done.stderr
    with open_context(load.load_settings()):
        assert (Client.get().failed_logins, Client.get().blocked_until) == (0, None)


def test_logins_of_a_list_without_a_place_get_no_verdict_and_do_not_stop_others(
    egec: Egec, login: tuple[str, str], busy: str
) -> None:
    egec("client", "create", "marc@example.org")
    other = json.loads(egec("activate", "marc@example.org", "--no-mail", "--show-password", "--format", "json").out)
    given = [
        (other["identifier"], other["password"]),
        login,
        (other["identifier"], "wrong"),
        ("1111111111", "x"),
        login,
    ]
    done = run_impatient("--batch - --format jsonl", "".join(f"{one};{password}\n" for one, password in given))
    assert done.returncode == 75
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["line"], one["accepted"]) for one in verdicts] == [
        (1, True),
        (2, None),
        (3, False),
        (4, False),
        (5, None),
    ]
    assert "2 logins were not checked" in done.stderr


def test_a_login_of_a_list_gets_a_place_that_becomes_free(
    egec_process: Egec, login: tuple[str, str], busy: str
) -> None:
    with open_context(load.load_settings()) as context:
        LoginPlace.update(expires_at=context.clock() + timedelta(seconds=1)).execute()
    assert batch(egec_process, f"{login[0]};{login[1]}\n1111111111;x\n") == (
        3,
        [(login[0], 1, True), ("1111111111", 2, False)],
        "",
    )
