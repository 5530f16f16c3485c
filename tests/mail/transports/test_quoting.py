"""Replies that quote the password, in any encoding and over several lines, are reduced to their codes."""

import base64
import quopri
import random
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from html import escape
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.mail.transports import interface
from egec_cli.mail.transports.interface import LONGEST, DeliveryRefused, has_trace, to_one_line, without_secret
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from egec_cli.password import Alphabet, Password, generate_password
from egec_cli.settings.types import Tls
from egec_cli.translation import Words
from tests.mail.conftest import TransportOf, mail_to
from tests.smtp_server import HOST, Fault, MailServer

LEFT_OUT = "(text left out: it quotes the password or token)"
ENCODINGS: dict[str, Callable[[str], str]] = {
    "clear": lambda text: text,
    "upper": str.upper,
    "lower": str.lower,
    "quoted-printable": lambda text: quopri.encodestring(text.encode(), quotetabs=True).decode(),
    "all quoted-printable": lambda text: "".join(f"={ord(one):02X}" for one in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "URL": lambda text: quote(text, safe=""),
    "all URL": lambda text: "".join(f"%{ord(one):02x}" for one in text),
    "HTML": escape,
    "all HTML": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal in pairs": lambda text: text.encode().hex(" ").upper(),
    "backslashes": lambda text: "".join(f"\\x{ord(one):02x}" for one in text),
}
passwords = st.builds(
    lambda alphabet, seed: generate_password(alphabet, random.Random(seed).choice),
    st.sampled_from([Alphabet.create(), Alphabet.create(lookalikes=True), Alphabet.create("=&%\\/+<>\"'")]),
    st.integers(0, 2**32),
)
encodings = st.sampled_from(sorted(ENCODINGS))
around = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30)


def reply_through_a_socket(lines: list[str]) -> str:
    """Return an answer of several lines as it is read and stored."""
    with closing(socket.create_server((HOST, 0))) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                text = "".join(f"554-{line}\r\n" for line in lines[:-1]) + f"554 {lines[-1]}\r\n"
                peer.sendall(b"220 here\r\n" + text.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        connection = SmtpConnection(
            HOST, listening.getsockname()[1], "[127.0.0.1]", timeout=20, tls=Tls.NONE, context=None
        )
        try:
            code, words = connection.getreply()
        finally:
            connection.close()
            thread.join()
    return f"{code} {to_one_line(words)}"


def is_left_out(reply: str, secret: Password) -> bool:
    """Return whether only the codes of a reply are kept."""
    return without_secret(reply, secret) in {f"554 {LEFT_OUT}", f"554 5.7.1 {LEFT_OUT}"}


@given(passwords, encodings, around, around, st.sampled_from(["", "5.7.1 "]))
def test_a_reply_that_quotes_the_password_is_left_out_whatever_its_encoding(
    secret: Password, encoding: str, before: str, after: str, status: str
) -> None:
    quoted = ENCODINGS[encoding](secret.reveal())
    assert is_left_out(to_one_line(f"554 {status}{before} {quoted} {after}"), secret)


@given(passwords, encodings, st.data())
def test_a_password_split_over_the_lines_of_a_reply_is_left_out(
    secret: Password, encoding: str, data: st.DataObject
) -> None:
    quoted = "".join(ENCODINGS[encoding](secret.reveal()).split())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(quoted) - 1), max_size=6)))
    pieces = [quoted[start:end] for start, end in zip([0, *cuts], [*cuts, len(quoted)], strict=True)]
    assert is_left_out(to_one_line("554 " + "\n".join(["rejected:", *pieces, "end"])), secret)


@given(passwords, st.sampled_from(["quoted-printable", "URL", "HTML", "clear"]), around, around)
def test_a_part_of_the_mail_in_base64_is_left_out_whatever_the_password_looks_like_in_it(
    secret: Password, inner: str, before: str, after: str
) -> None:
    part = f"{before}{ENCODINGS[inner](secret.reveal())}{after}"
    lines = base64.encodebytes(part.encode()).decode()
    assert is_left_out(to_one_line(f"554 5.7.1 content {lines}"), secret)


@pytest.mark.parametrize("encoding", ["clear", "base64", "quoted-printable"])
def test_a_password_split_over_lines_is_left_out_as_it_comes_from_a_socket(encoding: str) -> None:
    secret = Password("fG69a*6jH")
    quoted = ENCODINGS[encoding](secret.reveal())
    reply = reply_through_a_socket(["5.7.1 spam:", *quoted, "end"])
    assert without_secret(reply, secret) == f"554 5.7.1 {LEFT_OUT}"


@given(passwords, st.integers(0, 5))
def test_four_characters_in_a_row_are_a_trace(secret: Password, start: int) -> None:
    assert has_trace(f"554 spam: {secret.reveal()[start : start + 4]}", secret)


@given(passwords, around)
def test_the_password_in_clear_is_in_nothing_that_is_kept(secret: Password, words: str) -> None:
    for reply in (f"{secret.reveal()}{words}", f"{words}{secret.reveal()}", f"554 {secret.reveal()} {words * 40}"):
        assert secret.reveal() not in without_secret(reply, secret)


@pytest.mark.parametrize(
    "reply",
    [
        "250 2.0.0 Ok: queued as 4D2F1234AB",
        "250 OK id=1tKxyz-0004Qe-2b",
        "250 2.6.0 <0123456789abcdef@egec.pro> [InternalId=4711, Hostname=AM9PR01MB] Queued mail for delivery",
        "550 5.1.1 <jeanne@example.org>: Recipient address rejected: User unknown in local recipient table",
        "451 4.7.1 Greylisting in action, please come back in 300 s",
        "/var/mail/new/1795492777.c020c833f5ed723b.host",
    ],
)
def test_a_reply_that_quotes_nothing_is_kept_as_it_is(reply: str) -> None:
    kept = [
        without_secret(reply, generate_password(Alphabet.create(), random.Random(seed).choice)) for seed in range(500)
    ]
    assert kept.count(reply) >= 498


def test_of_words_with_values_only_the_value_that_quotes_is_left_out() -> None:
    reply = "554 5.6.0 spam: fG69a*6jH"
    words = Words("the mail server {server} refuses the mail: {reply}", server="mail.example.org:25", reply=reply)
    kept = without_secret(words, Password("fG69a*6jH"))
    assert kept == f"the mail server mail.example.org:25 refuses the mail: 554 5.6.0 {LEFT_OUT}"
    assert isinstance(kept, Words)
    assert kept.template == words.template
    nested = Words("{words}. The mail may have left", words=words)
    assert "fG69" not in without_secret(nested, Password("fG69a*6jH"))


def test_a_long_reply_is_cut_before_it_is_looked_at() -> None:
    assert without_secret("250 " + 10_000 * "x", Password("fG69a*6jH")) == ("250 " + 10_000 * "x")[:LONGEST]


@pytest.mark.parametrize("secret", ["a", "abc", "pass word", ""])
def test_a_short_password_of_the_login_is_found_too(secret: str) -> None:
    quoted = base64.b64encode(f"\0egec\0{secret}".encode()).decode()
    for reply in (f"535 5.7.8 no: {secret}", f"535 5.7.8 no: {quoted}"):
        assert without_secret(reply, Password(secret)) == (f"535 5.7.8 {LEFT_OUT}" if secret else reply)


def test_a_password_is_found_with_other_characters_between_its_own() -> None:
    secret = Password("fG69a*6jH")
    assert without_secret("554 " + "--".join(secret.reveal()), secret) == f"554 {LEFT_OUT}"
    assert has_trace((8 * "-").join(secret.reveal()), secret)
    assert not has_trace((9 * "-").join(secret.reveal()), secret)


def test_each_form_in_base64_has_all_characters_that_no_other_text_changes() -> None:
    secret = Password("fG69a*6jH")
    for before, form in enumerate(interface._encode_base64_forms(secret)):
        quoted = {
            base64.b64encode(before * start + secret.reveal().encode() + end).decode().casefold()
            for start, end in [(b"\0", b"\0"), (b"\xff", b"\xff")]
        }
        assert all(form in one for one in quoted)
        one, other = quoted
        assert len(form) == max(map(len, common_parts(one, other)))


def common_parts(one: str, other: str) -> list[str]:
    """Return what two texts of the same length have in common, in the same places."""
    return "".join(a if a == b else " " for a, b in zip(one, other, strict=True)).split()


def test_a_login_quoted_over_several_lines_is_not_shown(transport_of: TransportOf) -> None:
    with MailServer(login=("egec", "Pa55:wo/rd")) as server:
        server.fail_always(Fault.LOGIN_THAT_QUOTES_OVER_LINES)
        with pytest.raises(DeliveryRefused) as refusal:
            transport_of(server.url).deliver(mail_to())
    assert refusal.value.error.message.endswith(f"535 {LEFT_OUT}")
