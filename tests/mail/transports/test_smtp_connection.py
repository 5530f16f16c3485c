"""The deadlines of an SMTP connection that the tests of the transport do not cover: connecting, TLS, sending."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.transports.interface import DeliveryRefused
from egec_cli.mail.transports.smtp_connection import SmtpConnection
from egec_cli.settings.types import Tls
from tests.mail.conftest import End, TransportOf, end_of_delivery, mail_to
from tests.smtp_server import DRIPPED_RECORD, HOST, authority_file, tls_context

IMPATIENCE = 0.5
# Allowance for a busy machine.
LATE = 5.0

Serve = Callable[[socket.socket], object]


@contextmanager
def server_of(serve: Serve) -> Iterator[int]:
    """Serve one connection in a thread, which ends with the block; yield the port."""
    with closing(socket.create_server((HOST, 0))) as listening:

        def run() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(30)
                # The client disconnects, as it should.
                with suppress(OSError):
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(30)
        assert not thread.is_alive()


def test_a_tls_handshake_that_drips_has_one_deadline(transport_of: TransportOf) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(DRIPPED_RECORD.first)
        for _ in range(500):
            connection.sendall(DRIPPED_RECORD.again)
            time.sleep(0.02)

    with server_of(drip) as port:
        began = time.monotonic()
        assert (
            end_of_delivery(transport_of(f"smtps://{HOST}:{port}", IMPATIENCE), mail_to()) == ExitCode.TEMPORARY_FAILURE
        )
        assert IMPATIENCE <= time.monotonic() - began < IMPATIENCE + LATE


def test_an_answer_that_drips_within_tls_has_one_deadline(transport_of: TransportOf) -> None:
    def drip(connection: socket.socket) -> None:
        with tls_context(HOST).wrap_socket(connection, server_side=True) as private:
            private.sendall(b"220 ")
            for _ in range(500):
                private.sendall(b"x")
                time.sleep(0.02)

    with server_of(drip) as port:
        url = f"smtps://{HOST}:{port}?ca={authority_file()}"
        began = time.monotonic()
        assert end_of_delivery(transport_of(url, IMPATIENCE), mail_to()) == ExitCode.TEMPORARY_FAILURE
        assert IMPATIENCE <= time.monotonic() - began < IMPATIENCE + LATE


def read_slowly(connection: socket.socket, until: threading.Event) -> None:
    """Accept a mail, then read it so slowly that it takes minutes, without long pauses."""
    connection.sendall(b"220 here\r\n")
    with connection.makefile("rb") as commands:
        for answer in (b"250 here\r\n", b"250 sender\r\n", b"250 recipient\r\n", b"354 go ahead\r\n"):
            commands.readline()
            connection.sendall(answer)
    while not until.wait(0.1) and connection.recv(20_000):
        pass


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.IMPLICIT])
def test_a_message_that_a_server_reads_slowly_has_one_deadline_and_is_in_doubt(
    tls: Tls, transport_of: TransportOf
) -> None:
    is_over = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        if tls is Tls.NONE:
            read_slowly(connection, is_over)
        else:
            with tls_context(HOST).wrap_socket(connection, server_side=True) as private:
                read_slowly(private, is_over)

    with server_of(serve) as port:
        url = f"smtp://{HOST}:{port}" if tls is Tls.NONE else f"smtps://{HOST}:{port}?ca={authority_file()}"
        long_mail = mail_to(content=300_000 * (98 * b"x" + b"\r\n"))
        transport = transport_of(url, IMPATIENCE)
        transport.connect()
        began = time.monotonic()
        end = end_of_delivery(transport, long_mail)
        taken = time.monotonic() - began
        is_over.set()
        assert end == End.IN_DOUBT
        assert IMPATIENCE <= taken < IMPATIENCE + LATE


def test_a_server_that_stops_reading_is_reported_and_left() -> None:
    is_over = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 here\r\n")
        is_over.wait(30)

    with server_of(serve) as port:
        connection = connect(port)
        try:
            with pytest.raises(TimeoutError, match=re.escape(f"did not read on within {IMPATIENCE:g} s")):
                connection.send(30_000_000 * b"x")
            assert connection.sock is None
        finally:
            is_over.set()
            connection.close()


def test_all_addresses_of_a_host_share_one_deadline_and_the_last_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        # The queue is full, so the system answers no new connection.
        full = stack.enter_context(closing(socket.create_server((HOST, 0), backlog=0)))
        for _ in range(3):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        hanging = (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())
        # No test can give a host several addresses.
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: 5 * [hanging])
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            connect(full.getsockname()[1])
        assert 0.9 * IMPATIENCE <= time.monotonic() - began < IMPATIENCE + 1.5

        with server_of(lambda connection: connection.sendall(b"220 here\r\n")) as port:
            answering = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [hanging, hanging, answering])
            connect(port).close()


def connect(port: int) -> SmtpConnection:
    """Connect to a port of this machine in clear text."""
    return SmtpConnection(HOST, port, "[127.0.0.1]", timeout=IMPATIENCE, tls=Tls.NONE, context=None)


def test_what_was_sent_in_clear_text_before_tls_is_forgotten() -> None:
    # CVE-2011-0411: an injected answer after that to STARTTLS would look like the server's own.
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 here\r\n")
        connection.recv(1000)
        connection.sendall(b"250-here\r\n250 STARTTLS\r\n")
        connection.recv(1000)
        connection.sendall(b"220 Go ahead\r\n250-put in\r\n250 AUTH PLAIN\r\n")
        with tls_context(HOST).wrap_socket(connection, server_side=True) as private:
            private.recv(1000)
            private.sendall(b"250-here\r\n250 SIZE 1000\r\n")
            private.recv(1000)

    with server_of(serve) as port:
        context = ssl.create_default_context(cafile=authority_file())
        connection = SmtpConnection(HOST, port, "[127.0.0.1]", timeout=20, tls=Tls.STARTTLS, context=context)
        try:
            connection.starttls(context=context)
            connection.ehlo()
            assert connection.esmtp_features == {"size": "1000"}
        finally:
            connection.close()


def test_a_deadline_is_reported_as_such(transport_of: TransportOf) -> None:
    words = re.escape("no complete answer within 0.5 s")
    with server_of(lambda connection: connection.recv(1000)) as port, pytest.raises(DeliveryRefused, match=words):
        transport_of(f"smtp://{HOST}:{port}", IMPATIENCE).deliver(mail_to())
