"""No clear password anywhere but in the mail: every place it could leak to is searched for passwords that are known."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import bcrypt
import pytest

from egec_cli import hashing
from egec_cli.credentials import states
from egec_cli.mail.compose import message
from egec_cli.mail.transports import login as login_module
from egec_cli.mail.transports import login_secret
from egec_cli.mail.transports.maildir import MaildirTransport
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from tests import children
from tests.conftest import Egec
from tests.processes import Call, replace, run_with
from tests.smtp_server import Fault, MailServer, Point
from tests.tokens import Tokens, shell_program

KNOWN = "fG69a*6jH"


def knowing(password: str) -> Call:
    """Return the change by which this is the next password of the generator; nothing else is changed."""
    return replace(hashing, "generate_password", partial(children.make_known_password, password))


KNOWN_PASSWORD = knowing(KNOWN)


def leaks(folder: Path, *, but_in: str) -> list[Path]:
    """Return the files below the folder that hold the known password, but for those below `but_in`."""
    wanted = [KNOWN.encode(), KNOWN.encode("utf-16-le"), KNOWN.encode().hex().encode()]
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and but_in not in str(path) and any(form in path.read_bytes() for form in wanted)
    ]


@pytest.fixture
def client(egec: Egec) -> str:
    """Return the identifier of a client."""
    egec("client", "create", "jeanne@example.org")
    return egec("client", "list", "--format", "ids").out.strip()


def test_the_search_finds_what_leaks(tmp_path: Path, client: str) -> None:
    (tmp_path / "log").write_text(f"issued {KNOWN} to jeanne")
    assert leaks(tmp_path, but_in="/mail/") == [tmp_path / "log"]


def test_an_activation_leaves_the_password_in_the_mail_alone(tmp_path: Path, client: str) -> None:
    ended = run_with([KNOWN_PASSWORD], "activate", client, "--format", "json")
    assert json.loads(ended.out)["state"] == "accepted"
    assert KNOWN not in ended.out + ended.err
    mail = next((tmp_path / "data" / "egec" / "mail" / "new").iterdir())
    assert re.sub("=\r?\n", "", mail.read_text()).count(KNOWN) == 2
    assert leaks(tmp_path, but_in="/mail/new/") == []


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_log_and_the_record_of_what_was_done_have_no_password(
    egec: Egec, egec_process: Egec, tmp_path: Path, client: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_LOG", style)
    logged = ""
    for command in (
        ("activate", client),
        ("activate", client, "--revoke"),
        ("reissue", "start", "spring", "--all", "--yes", "--format", "jsonl"),
    ):
        ended = run_with([KNOWN_PASSWORD], *command)
        assert ended.code == 0
        logged += ended.out + ended.err
    shown = run_with([KNOWN_PASSWORD], "activate", client, "--no-mail", "--show-password")
    assert KNOWN in shown.out
    logged += shown.err
    for typed in (f"{client}\n{KNOWN}\n", f"{KNOWN}\n{client}\n", f"{client}\n{KNOWN.swapcase()}\n"):
        for options in ((), ("--explain",)):
            ended_too = egec_process("verify", "--stdin", *options, stdin=typed)
            logged += ended_too.out + ended_too.err
    for output in ("table", "json", "csv"):
        logged += egec("audit", "list", "--format", output).out
    for words in ("credential.issue", "credential.show", "credential.revoke", "login.explain", "reissue.finish"):
        assert logged.count(words) >= 2
    for form in (KNOWN, KNOWN.swapcase()):
        assert form not in logged


def test_a_login_leaves_it_nowhere_whether_accepted_or_not(egec_process: Egec, tmp_path: Path, client: str) -> None:
    for code, typed in ((0, f"{client}\n{KNOWN}\n"), (1, f"{KNOWN}\n{client}\n"), (1, f"1111111111\n{KNOWN}\n")):
        run_with([KNOWN_PASSWORD], "activate", client)
        ended = egec_process("verify", "--stdin", stdin=typed)
        assert ended.code == code
        assert KNOWN not in ended.out + ended.err
    assert leaks(tmp_path, but_in="/mail/new/") == []


CHANNELS = {
    "--password-stdin": "{password}",
    "--stdin": "{identifier}\n{password}\n",
    "--pam": "{password}",
    "--checkpassword": "{identifier}\0{password}\0",
    "--batch csv": "{identifier};{password}\n1111111111;{password}\n{password};{identifier}\n{password}",
    "--batch jsonl": '{{"identifier": "{identifier}", "password": "{password}"}}\n{{"password": "{password}"}}',
    "--explain": "{identifier}\n{password}\n",
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that keeps a copy of the data of the activated client, as soon as there is one."""
    return tmp_path_factory.mktemp("copies") / "data"


@pytest.fixture
def activated(tmp_path: Path, copies: Path, egec: Egec, request: pytest.FixtureRequest) -> str:
    """Return the identifier of a client with the known password; it is activated once, then its data are copied."""
    if not copies.exists():
        request.getfixturevalue("client")
        assert run_with([KNOWN_PASSWORD], "activate", "jeanne@example.org").code == 0
        shutil.copytree(tmp_path / "data", copies)
    else:
        shutil.copytree(copies, tmp_path / "data")
    return egec("client", "list", "--format", "ids").out.strip()


@pytest.mark.parametrize("known", [KNOWN, KNOWN.swapcase(), f"{KNOWN}\0", f"{KNOWN}, merci."])
@pytest.mark.parametrize("channel", CHANNELS)
def test_no_channel_of_verify_leaves_what_was_typed_anywhere(
    tmp_path: Path, activated: str, channel: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"--explain": ["--stdin", "--explain"], "--password-stdin": [activated, "--password-stdin"]}.get(
        channel, ["--batch", "-"] if "batch" in channel else [channel]
    )
    if channel == "--checkpassword":
        arguments += ["true"]
    stdin = CHANNELS[channel].format(identifier=activated, password=known)
    monkeypatch.setenv("PAM_USER", activated)
    ended = run_with([partial(os.dup2, 0, 3)], "verify", *arguments, stdin=stdin)
    assert ended.code in {0, 1, 65}
    told = ended.out + ended.err
    for form in (KNOWN, KNOWN.swapcase()):
        assert form not in told
        stored = [path for path in tmp_path.rglob("*") if path.is_file() and "/mail/new/" not in str(path)]
        assert not any(form.encode() in path.read_bytes() for path in stored)


DEFECTS = {
    "in the hash": replace(bcrypt, "hashpw", children.fail_with_first_argument),
    "in the message": replace(message, "credentials_mail", children.fail_with_password),
    "in the transport": replace(MaildirTransport, "deliver", children.fail_with_content),
    "while the mail is settled": replace(states, "settle_credentials", partial(children.fail_with, KNOWN)),
    "chained": replace(MaildirTransport, "deliver", children.fail_twice_with_content),
}


@pytest.mark.parametrize("form", [(), ("--format", "json")])
@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_tells_no_password(tmp_path: Path, client: str, defect: Call, form: tuple[str, ...]) -> None:
    ended = run_with([KNOWN_PASSWORD, defect], "activate", client, *form)
    assert ended.code == 70
    assert KNOWN not in ended.out + ended.err
    assert leaks(tmp_path, but_in="/mail/new/") == []


@pytest.mark.parametrize(
    "fault", [f for f in Fault if "QUOTES" in f.name and "LOGIN" not in f.name] + [Fault.ANSWER_299]
)
@pytest.mark.parametrize("known", [KNOWN, "fG=9=*6jH"])
def test_a_server_that_quotes_the_mail_in_its_answer_does_not_get_it_recorded(
    tmp_path: Path, client: str, fault: Fault, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MailServer() as server:
        server.fail_next(fault)
        monkeypatch.setenv("EGEC_MAIL_URL", server.url)
        ended = run_with([knowing(known)], "activate", client, "--format", "json")
    assert ended.code in {0, 65, 75}
    told = ended.out + ended.err
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*.db*"))
    encoded = base64.b64encode(known.encode()).decode()
    for form in (known, known.replace("=", "=3D"), encoded, f"{known[:4]} {known[4:]}"):
        assert form not in told
        assert form.encode() not in stored
    assert any(
        words in told
        for words in ("Got it: From: eGEC", "This is spam: From: eGEC", "no clear answer: 299", "text left out")
    )


def test_secrets_of_the_settings_are_told_by_no_message(egec_process: Egec, tmp_path: Path, client: str) -> None:
    secret = "s3cr3t-of-the-server"
    for url in (
        f"smtp://user:{secret}@127.0.0.1:1",
        f"smtp://user:{secret}@127.0.0.1:1?tls=none",
        f"smtp://user:{secret}@[::1",
        f"smtp://user:{secret}@host:port",
        f"imap://user:{secret}@host",
    ):
        ended = egec_process("activate", client, env={"EGEC_MAIL_URL": url})
        assert ended.code in {75, 78}, ended
        assert secret not in ended.out + ended.err
    for url in (f"postgresql://user:{secret}@127.0.0.1:1/egec", f"mysql://user:{secret}@host/egec"):
        ended = egec_process("client", "list", env={"EGEC_DATABASE_URL": url})
        assert ended.code in {75, 78}, ended
        assert secret not in ended.out + ended.err
    assert secret not in egec_process("init", env={"EGEC_MAIL_URL": f"smtp://user:{secret}@127.0.0.1:1"}).out


TOKEN = "token-Q7f0zR2kX9vB4tLm.W1nHs8YpJd-6ueGc3oAi5_Ft"
LOGINS = {
    "token from a program": "EGEC_MAIL_TOKEN_COMMAND",
    "token from a file": "EGEC_MAIL_TOKEN_FILE",
    "password from a program": "EGEC_MAIL_PASSWORD_COMMAND",
}


@pytest.fixture(params=list(LOGINS.values()), ids=list(LOGINS))
def login(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set where the secret of the login comes from: the canary, in a folder that is not searched."""
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    program = shell_program(folder / "program", f"cat {folder}/token; cat {folder}/token >&2")
    name = str(request.param)
    monkeypatch.setenv(name, str(folder / "token") if name.endswith("FILE") else f"{program} --canary={TOKEN}")
    return name


def server_for(login: str) -> MailServer:
    """Return a server that accepts the canary."""
    return MailServer(tokens=Tokens()) if "TOKEN" in login else MailServer(login=("egec", TOKEN))


def url_without_password(server: MailServer) -> str:
    return server.url.replace(f":{TOKEN}@", "@")


def traces_of_the_token(told: str, folder: Path) -> list[str]:
    """Return where a part of the token is, in clear, in base64 or in hexadecimal, but in its own folder."""
    forms = [TOKEN[start : start + 16] for start in range(0, len(TOKEN) - 16, 8)]
    response = f"auth=Bearer {TOKEN}\x01\x01"
    for before in range(3):
        forms += [base64.b64encode(before * b"x" + one.encode()).decode()[8:28] for one in (TOKEN, response)]
    forms.append(TOKEN.encode().hex())
    contents = {"output": told.encode()} | {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "/secret/" not in str(path)
    }
    return [place for place, content in contents.items() if any(form.encode() in content for form in forms)]


def test_the_search_for_the_token_finds_it(tmp_path: Path) -> None:
    for form in (TOKEN, base64.b64encode(f"user=a\x01auth=Bearer {TOKEN}".encode()).decode(), TOKEN.encode().hex()):
        assert traces_of_the_token(f"535 {form}", tmp_path) == ["output"]


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.LOGIN_454, Fault.LOGIN_THAT_QUOTES, Fault.MAIL_530])
def test_the_secret_of_a_login_is_told_and_kept_nowhere(
    tmp_path: Path, client: str, login: str, fault: Fault, egec_process: Egec
) -> None:
    told = ""
    with server_for(login) as server:
        if fault is not Fault.NONE:
            server.fail_always(fault)
        url = url_without_password(server)
        commands = [("--verbose", "activate", client, "--format", "json"), ("doctor", "-v")]
        if fault is Fault.NONE:
            commands += [("reissue", "start", "spring", "--all", "--yes"), ("audit", "list", "--format", "json")]
        for command in commands:
            ended = egec_process(*command, env={"EGEC_MAIL_URL": url, "EGEC_LOG": "json"})
            assert ended.code in {0, 3, 75, 78}, ended
            told += ended.out + ended.err
        assert bool(server.accepted) is (fault is Fault.NONE)
    assert traces_of_the_token(told, tmp_path) == []


SECRET_DEFECTS = {
    "in the login": replace(login_module, "log_in", children.fail_with_all_arguments),
    "in the connection": replace(SmtpConnection, "auth", children.fail_with_all_arguments),
    "in the parser": replace(login_secret, "_parse_secret", children.fail_with_all_arguments),
}


@pytest.mark.parametrize("defect", SECRET_DEFECTS.values(), ids=SECRET_DEFECTS.keys())
def test_a_defect_tells_no_secret_of_a_login(
    tmp_path: Path, client: str, login: str, defect: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_for(login) as server:
        monkeypatch.setenv("EGEC_MAIL_URL", url_without_password(server))
        ended = run_with([defect], "activate", client)
    assert ended.code == 70
    assert traces_of_the_token(ended.out + ended.err, tmp_path) == []


def test_the_secret_of_a_login_is_in_no_arguments_and_no_environment_of_egec(
    tmp_path: Path, client: str, login: str
) -> None:
    seen: list[bytes] = []
    with server_for(login) as server:
        url = url_without_password(server)
        path = os.environ[login].partition(" ")[0]
        with subprocess.Popen(
            [sys.executable, "-m", "egec_cli", "activate", client],
            env={**os.environ, "EGEC_MAIL_URL": url, login: path},
            stdout=subprocess.DEVNULL,
        ) as process:
            server.at(
                Point.MAIL,
                lambda: seen.extend(
                    Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ")
                ),
            )
    assert process.returncode == 0
    assert len(seen) == 2
    assert not any(TOKEN.encode() in one for one in seen)


def test_no_command_takes_a_password_as_an_argument() -> None:
    helps = [
        subprocess.run([sys.executable, "-m", "egec_cli", *command, "--help"], capture_output=True, text=True).stdout
        for command in ([], ["activate"], ["verify"], ["client", "create"])
    ]
    assert all(helps)
    for text in helps:
        for option in re.findall(r"--[a-z-]*password[a-z-]*\s+\S+", text):
            assert not re.search(r"\b(TEXT|PASSWORD)\b", option), option
