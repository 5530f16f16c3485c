"""Logins at a real server: by OAUTHBEARER and XOAUTH2, with tokens that expire, and by the password of a program."""

import base64
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.transports import login
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, Transport
from egec_cli.mail.transports.smtp import SmtpTransport
from egec_cli.settings.types import Tls
from tests.mail.conftest import End, TransportOf, end_of_delivery, mail_to
from tests.mail.transports.test_smtp import all_words
from tests.smtp_server import Fault, MailServer, Point
from tests.tokens import USER, Tokens, counting_program, number_of_runs, shell_program

BOTH = ("XOAUTH2", "OAUTHBEARER")
# As long as those of Microsoft, and of no use anywhere. Its parts differ, as those of real tokens do.
LONG_TOKEN = "token-" + "".join(f"{number * 7919:x}.Q" for number in range(1, 300))
CONFIGURATION, TEMPORARY_FAILURE = ExitCode.CONFIGURATION, ExitCode.TEMPORARY_FAILURE


def token_file(folder: Path, token: str) -> Path:
    path = folder / "token"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


def refusal_of(transport: Transport) -> DeliveryRefused:
    with pytest.raises(DeliveryRefused) as refusal:
        transport.deliver(mail_to())
    return refusal.value


# Mechanisms


@pytest.mark.parametrize("tls", Tls)
@pytest.mark.parametrize(
    ("offered", "used"),
    [(BOTH, "OAUTHBEARER"), (("XOAUTH2",), "XOAUTH2"), (("OAUTHBEARER",), "OAUTHBEARER")],
)
@pytest.mark.parametrize("token", ["token-1", LONG_TOKEN], ids=["short", "long"])
def test_a_login_by_token_uses_the_best_mechanism_that_is_offered(
    token: str, offered: tuple[str, ...], used: str, tls: Tls, tmp_path: Path, transport_of: TransportOf
) -> None:
    tokens = Tokens(offered)
    with MailServer(tls=tls, tokens=tokens) as server:
        transport = transport_of(server.url, MAIL_TOKEN_FILE=token_file(tmp_path, token))
        assert isinstance(transport, SmtpTransport)
        assert transport.read_greeting().login == used
        assert end_of_delivery(transport, mail_to()) == End.ACCEPTED
        assert tokens.logins == [(used, token, True)]
        if tls is not Tls.NONE:
            assert b"AUTH" not in server.heard_in_clear.replace(b"STARTTLS", b"")


@pytest.mark.parametrize(("token", "is_in_the_command"), [("token-1", True), (LONG_TOKEN, False)])
def test_a_command_that_would_be_too_long_does_not_contain_the_token(
    token: str, is_in_the_command: bool, tmp_path: Path, transport_of: TransportOf
) -> None:
    with MailServer(tokens=Tokens(("XOAUTH2",))) as server:
        transport_of(server.url, MAIL_TOKEN_FILE=token_file(tmp_path, token)).deliver(mail_to())
        [command] = [line for line in server.heard_in_clear.split(b"\r\n") if line.startswith(b"AUTH")]
        assert (len(command) > len(b"AUTH XOAUTH2")) is is_in_the_command


def test_the_longest_command_with_a_token_is_that_of_the_standard(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(tokens=Tokens(("XOAUTH2",))) as server:
        for length in range(300, 400):
            transport_of(server.url, MAIL_TOKEN_FILE=token_file(tmp_path, "token-" + length * "x")).deliver(mail_to())
        commands = [line for line in server.heard_in_clear.split(b"\r\n") if line.startswith(b"AUTH")]
        assert {len(command) + 2 for command in commands if b" " in command[5:]} <= set(
            range(login._LONGEST_COMMAND + 1)
        )
        assert max(len(command) + 2 for command in commands) > login._LONGEST_COMMAND - 4
        assert b"AUTH XOAUTH2" in commands


@pytest.mark.parametrize("offered", [(), ("PLAIN", "LOGIN")])
def test_a_server_without_login_by_token_is_a_fault_of_the_configuration(
    offered: tuple[str, ...], tmp_path: Path, transport_of: TransportOf
) -> None:
    with MailServer(tokens=Tokens(offered)) as server:
        program = counting_program(tmp_path)
        refusal = refusal_of(transport_of(server.url, MAIL_TOKEN_COMMAND=program))
        assert "does not offer a login by OAuth" in refusal.error.message
        assert refusal.error.exit_code == CONFIGURATION
        assert number_of_runs(tmp_path) == 0


def test_the_name_of_the_user_is_quoted_for_oauthbearer(
    tmp_path: Path, transport_of: TransportOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.tokens.USER", "a=b,c@example.org")
    with MailServer(tokens=Tokens(("OAUTHBEARER",))) as server:
        url = server.url.replace("egec%40example.org", "a%3Db%2Cc%40example.org")
        assert end_of_delivery(transport_of(url, MAIL_TOKEN_FILE=token_file(tmp_path, "token-1")), mail_to()) == (
            End.ACCEPTED
        )


# Tokens that expire


@pytest.mark.parametrize("mechanism", BOTH)
@pytest.mark.parametrize("explains", [True, False])
def test_an_expired_token_is_requested_again_once(
    explains: bool, mechanism: str, tmp_path: Path, transport_of: TransportOf
) -> None:
    tokens = Tokens((mechanism,), uses=2, explains=explains)
    with MailServer(tokens=tokens) as server:
        program = counting_program(tmp_path)
        for number in range(1, 6):
            transport = transport_of(server.url, MAIL_TOKEN_COMMAND=program)
            assert end_of_delivery(transport, mail_to(f"c{number}@example.org")) == End.ACCEPTED
        accepted = [login.token for login in tokens.logins if login.is_accepted]
        assert accepted == ["token-1", "token-1", "token-2", "token-2", "token-3"]
        assert [login.token for login in tokens.logins if not login.is_accepted] == ["token-1", "token-2"]
        assert number_of_runs(tmp_path) == 3
        assert len(server.accepted) == 5


@pytest.mark.parametrize("mechanism", BOTH)
@pytest.mark.parametrize("explains", [True, False])
def test_a_new_token_that_is_refused_too_is_a_fault_of_the_configuration(
    explains: bool, mechanism: str, tmp_path: Path, transport_of: TransportOf
) -> None:
    tokens = Tokens((mechanism,), explains=explains)
    with MailServer(tokens=tokens) as server:
        transport = transport_of(server.url, MAIL_TOKEN_COMMAND=counting_program(tmp_path, prefix="bad-"))
        refusal = refusal_of(transport)
        assert refusal.error.exit_code == CONFIGURATION
        assert refusal.cause is Cause.BLOCKED
        assert f"refuses the login of {USER!r}: 535 5.7.8 The token is not valid" in refusal.error.message
        assert ('"status":' in refusal.error.message) is explains
        assert "EGEC_MAIL_TOKEN_COMMAND" in refusal.error.hint
        assert [login.token for login in tokens.logins] == ["bad-1", "bad-2"]


def test_the_same_token_is_not_tried_twice(tmp_path: Path, transport_of: TransportOf) -> None:
    tokens = Tokens()
    with MailServer(tokens=tokens) as server:
        program = shell_program(tmp_path / "program", "echo bad-token")
        assert end_of_delivery(transport_of(server.url, MAIL_TOKEN_COMMAND=program), mail_to()) == CONFIGURATION
        assert end_of_delivery(
            transport_of(server.url, MAIL_TOKEN_FILE=token_file(tmp_path, "bad-token")), mail_to()
        ) == (CONFIGURATION)
        assert len(tokens.logins) == 2


def test_a_token_file_is_read_for_each_login(tmp_path: Path, transport_of: TransportOf) -> None:
    tokens = Tokens()
    with MailServer(tokens=tokens) as server:
        path = token_file(tmp_path, "token-1")
        transport = transport_of(server.url, MAIL_TOKEN_FILE=path)
        transport.deliver(mail_to())
        token_file(tmp_path, "token-2")
        transport.deliver(mail_to())
        transport.close()
        transport.deliver(mail_to())
        assert [login.token for login in tokens.logins] == ["token-1", "token-2"]


def test_a_token_file_that_is_renewed_between_two_attempts_counts(tmp_path: Path, transport_of: TransportOf) -> None:
    tokens = Tokens()
    with MailServer(tokens=tokens) as server:
        path = token_file(tmp_path, "bad-1")
        server.at(Point.LOGIN, lambda: token_file(tmp_path, "token-2"))
        assert end_of_delivery(transport_of(server.url, MAIL_TOKEN_FILE=path), mail_to()) == End.ACCEPTED


@pytest.mark.parametrize("pipelining", [False, True])
def test_a_token_that_expires_within_a_connection_is_requested_again(
    pipelining: bool, tmp_path: Path, transport_of: TransportOf
) -> None:
    tokens = Tokens()
    with MailServer(tokens=tokens, pipelining=pipelining) as server:
        transport = transport_of(server.url, MAIL_TOKEN_COMMAND=counting_program(tmp_path))
        transport.deliver(mail_to("a@example.org"))
        tokens.revoke_all()
        transport.deliver(mail_to("b@example.org"))
        assert [login.token for login in tokens.logins] == ["token-1", "token-2"]
        assert [kept.recipient for kept in server.accepted] == ["a@example.org", "b@example.org"]
        assert server.connections == 2


def test_a_server_that_always_requires_another_login_is_asked_twice(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(tokens=Tokens()) as server:
        server.fail_always(Fault.MAIL_530)
        transport = transport_of(server.url, MAIL_TOKEN_COMMAND=counting_program(tmp_path))
        refusal = refusal_of(transport)
        assert refusal.error.exit_code == CONFIGURATION
        assert refusal.reply == "530 5.7.0 Authentication required"
        assert (server.connections, number_of_runs(tmp_path)) == (2, 2)


def test_a_login_from_the_url_is_not_tried_again(transport_of: TransportOf) -> None:
    with MailServer(login=("egec", "secret")) as server:
        server.fail_always(Fault.MAIL_530)
        refusal_of(transport_of(server.url))
        refusal_of(transport_of(server.url.replace("secret", "wrong")))
        assert server.connections == 2


@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [
        (Fault.LOGIN_454, TEMPORARY_FAILURE),
        (Fault.SILENT_AT_LOGIN, TEMPORARY_FAILURE),
        (Fault.CUT_AT_LOGIN, TEMPORARY_FAILURE),
        (Fault.LOGIN_WITH_BROKEN_CHALLENGE, TEMPORARY_FAILURE),
        (Fault.LOGIN_535, CONFIGURATION),
    ],
)
def test_a_temporary_failure_of_the_login_requests_no_new_token(
    fault: Fault, exit_code: ExitCode, tmp_path: Path, transport_of: TransportOf
) -> None:
    with MailServer(tokens=Tokens()) as server:
        server.fail_always(fault)
        transport = transport_of(server.url, 0.5, MAIL_TOKEN_COMMAND=counting_program(tmp_path))
        assert end_of_delivery(transport, mail_to()) == exit_code
        assert number_of_runs(tmp_path) == (1 if exit_code == TEMPORARY_FAILURE else 2)


def test_four_connections_share_one_token_and_one_renewal(tmp_path: Path, transport_of: TransportOf) -> None:
    tokens = Tokens()
    with MailServer(tokens=tokens) as server:
        program = counting_program(tmp_path, seconds=0.2)
        transports = [transport_of(server.url, MAIL_TOKEN_COMMAND=program) for _ in range(4)]

        def deliver_all(round_: int) -> list[End | ExitCode]:
            mails = [mail_to(f"c{round_}{number}@example.org") for number in range(4)]
            with ThreadPoolExecutor(4) as pool:
                return list(pool.map(end_of_delivery, transports, mails))

        assert deliver_all(1) == [End.ACCEPTED] * 4
        assert number_of_runs(tmp_path) == 1
        tokens.revoke_all()
        assert deliver_all(2) == [End.ACCEPTED] * 4
        assert number_of_runs(tmp_path) == 2
        assert len({kept.recipient for kept in server.accepted}) == 8


# What is shown


@pytest.mark.parametrize("mechanism", BOTH)
@pytest.mark.parametrize("explains", [True, False])
@pytest.mark.parametrize("token", ["bad-token-of-32-characters-or-so", f"bad-{LONG_TOKEN}"], ids=["short", "long"])
def test_a_refusal_that_quotes_the_token_is_cut(
    token: str, explains: bool, mechanism: str, tmp_path: Path, transport_of: TransportOf
) -> None:
    with MailServer(tokens=Tokens((mechanism,), explains=explains, quotes=True)) as server:
        words = all_words(refusal_of(transport_of(server.url, MAIL_TOKEN_FILE=token_file(tmp_path, token))))
    assert "535 5.7.8 (text left out" in words
    for start in range(0, len(token) - 12, 4):
        part = token[start : start + 12]
        assert part not in words
        assert base64.b64encode(part.encode()).decode()[:14] not in words


def test_the_words_of_a_server_are_kept_beside_a_long_token(tmp_path: Path, transport_of: TransportOf) -> None:
    words = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant"
    with MailServer(tokens=Tokens()) as server:
        server.fail_always(Fault.LOGIN_535_LIKE_MICROSOFT)
        path = token_file(tmp_path, LONG_TOKEN)
        refusal = refusal_of(transport_of(server.url, MAIL_TOKEN_FILE=path))
    assert words in refusal.error.message


def test_a_token_never_shows_in_an_error(tmp_path: Path, transport_of: TransportOf) -> None:
    for fault in (Fault.LOGIN_454, Fault.LOGIN_535, Fault.LOGIN_THAT_QUOTES, Fault.CUT_AT_LOGIN):
        with MailServer(tokens=Tokens()) as server:
            server.fail_always(fault)
            words = all_words(refusal_of(transport_of(server.url, MAIL_TOKEN_FILE=token_file(tmp_path, LONG_TOKEN))))
            assert LONG_TOKEN[:12] not in words
            response = base64.b64encode(f"auth=Bearer {LONG_TOKEN}".encode()).decode()
            assert response[20:40] not in words


# Passwords of a program


def test_the_password_of_a_program_logs_in(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(tls=Tls.STARTTLS, login=("egec", "Pa55 :wo/rd")) as server:
        url = re.sub(r"egec:[^@]*@", "egec@", server.url)
        program = shell_program(tmp_path / "program", "echo 'Pa55 :wo/rd'; echo more")
        transport = transport_of(url, MAIL_PASSWORD_COMMAND=program)
        assert isinstance(transport, SmtpTransport)
        assert transport.read_greeting().login == "PLAIN"
        assert end_of_delivery(transport, mail_to()) == End.ACCEPTED


def test_a_password_that_was_changed_is_requested_again(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(login=("egec", "secret-2")) as server:
        url = server.url.replace("egec:secret-2@", "egec@")
        program = counting_program(tmp_path, prefix="secret-")
        assert end_of_delivery(transport_of(url, MAIL_PASSWORD_COMMAND=program), mail_to()) == End.ACCEPTED
        assert server.connections == 2


def test_a_wrong_password_of_a_program_is_tried_once_and_not_shown(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(login=("egec", "secret")) as server:
        url = server.url.replace("egec:secret@", "egec@")
        server.fail_always(Fault.LOGIN_THAT_QUOTES)
        program = shell_program(tmp_path / "program", "echo Wr0ng-word")
        refusal = refusal_of(transport_of(url, MAIL_PASSWORD_COMMAND=program))
        assert refusal.error.exit_code == CONFIGURATION
        assert "EGEC_MAIL_PASSWORD_COMMAND" in refusal.error.hint
        assert "Wr0ng" not in all_words(refusal)
        assert server.connections == 1


def test_a_password_beyond_ascii_is_refused_in_words(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(login=("egec", "secret")) as server:
        url = server.url.replace("egec:secret@", "egec@")
        program = shell_program(tmp_path / "program", "echo môt-de-passe")
        refusal = refusal_of(transport_of(url, MAIL_PASSWORD_COMMAND=program))
        assert refusal.error.exit_code == CONFIGURATION
        assert "ASCII" in refusal.error.message
        assert "môt" not in all_words(refusal)


def test_nothing_is_fetched_for_a_server_that_is_unavailable(tmp_path: Path, transport_of: TransportOf) -> None:
    with MailServer(tokens=Tokens()) as server:
        url = server.url
    began = time.monotonic()
    transport = transport_of(url, MAIL_TOKEN_COMMAND=counting_program(tmp_path, seconds=20))
    assert end_of_delivery(transport, mail_to()) == TEMPORARY_FAILURE
    assert time.monotonic() - began < 10
    assert number_of_runs(tmp_path) == 0
