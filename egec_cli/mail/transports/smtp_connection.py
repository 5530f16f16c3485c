"""An SMTP connection with a deadline for each step, however slowly the server sends.

The time-out of a socket bounds one read only, so a server that drips bytes could hold its client for ever. Here these
steps have `timeout` seconds each: connecting (over all addresses of a host), the TLS handshake, the greeting, each
complete answer, and each command or message sent. The size of an answer is limited too. Looking up the host name has
the limits of the system's resolver instead (resolv.conf(5)).
"""

import binascii
import re
import smtplib
import socket
import ssl
import time
from typing import Any

from egec_cli.settings.types import Tls
from egec_cli.translation import Words

_ANSWER_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\r?\n", re.DOTALL)
_LONGEST_LINE = 8192
_MOST_LINES = 100
_CHUNK = 4096


class NoAnswer(smtplib.SMTPException):
    """What the server sent is not an SMTP answer."""


class SmtpConnection(smtplib.SMTP):
    """A connection to one mail server; `timeout` bounds each step of the dialogue as a whole, in seconds."""

    def __init__(
        self, host: str, port: int, own_name: str, *, timeout: float, tls: Tls, context: ssl.SSLContext | None
    ) -> None:
        """Connect, with TLS first if it is implicit, and read the greeting.

        Raises:
            SMTPException: the greeting is not that of a mail server.
            OSError: no connection in time, or TLS fails.
        """
        self._context = context if tls is Tls.IMPLICIT else None
        # The SASL mechanism of the login; empty before it.
        self.login_mechanism = ""
        super().__init__(host, port, own_name, timeout=timeout)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        """Open the socket, for smtplib, whose own method gives each address the whole time-out."""
        sock = _connect(host, port, timeout)
        try:
            # Python's TLS handshake treats the socket's time-out as a deadline.
            sock.settimeout(timeout)
            return self._context.wrap_socket(sock, server_hostname=host) if self._context else sock
        except BaseException:
            sock.close()
            raise

    def auth(self, mechanism: str, authobject: Any, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        """Log in by a SASL mechanism, as smtplib does, and keep its name.

        Raises:
            SMTPAuthenticationError: the server refuses the login.
            NoAnswer: a challenge of the server is not base64.
            SMTPException, OSError: the connection failed.
        """
        try:
            answer = super().auth(mechanism, authobject, initial_response_ok=initial_response_ok)
        except binascii.Error:
            self.close()
            raise NoAnswer(Words("this is not the answer of a mail server")) from None
        self.login_mechanism = mechanism
        return answer

    def send(self, data: bytes | str) -> None:  # type: ignore[override] # typeshed: also array.array and the like
        """Send all of the data; smtplib's own method gives each part that goes through TLS the whole time-out.

        Raises:
            SMTPServerDisconnected: the connection has ended.
            TimeoutError: the server did not read the data in time.
        """
        rest = memoryview(data.encode(self.command_encoding) if isinstance(data, str) else data)
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected(Words("the connection has ended"))
        deadline = time.monotonic() + self.timeout
        try:
            rest = rest[self.sock.send(rest) :]
            if rest:
                while rest:
                    self.sock.settimeout(_remaining_time(deadline))
                    rest = rest[self.sock.send(rest) :]
                self.sock.settimeout(self.timeout)
        except TimeoutError:
            self.close()
            raise TimeoutError(Words("the server did not read on within {seconds:g} s", seconds=self.timeout)) from None
        except OSError:
            self.close()
            raise

    def getreply(self, timeout: float | None = None) -> tuple[int, bytes]:
        """Read one complete answer (RFC 5321, 4.2) and return its code and its text, line by line.

        smtplib's own method accepts a line that was cut short, and any number of lines.

        Args:
            timeout: the maximum time for this answer, in seconds (default: that of the connection).

        Raises:
            SMTPServerDisconnected: the connection ended first.
            NoAnswer: this is not an SMTP answer, or it is too long.
            OSError: the connection failed, or the answer was incomplete at the deadline.
        """
        # When TLS starts, smtplib drops its file, and with it everything received in clear text.
        if self.file is None:
            self.file = _Incoming()
        seconds = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        try:
            answer = self._read_answer(self.file, deadline)
            if self.sock is not None:
                # A TLS handshake may follow, with its own deadline.
                self.sock.settimeout(self.timeout)
        except TimeoutError:
            self.close()
            raise TimeoutError(Words("no complete answer within {seconds:g} s", seconds=seconds)) from None
        except BaseException:
            self.close()
            raise
        return answer

    def _read_answer(self, incoming: "_Incoming", deadline: float) -> tuple[int, bytes]:
        codes: set[int] = set()
        text: list[bytes] = []
        while len(text) < _MOST_LINES:
            parts = _ANSWER_LINE.fullmatch(incoming.read_line(self.sock, deadline))
            if parts is None:
                break
            codes.add(int(parts[1]))
            text.append((parts[3] or b"").strip())
            if len(codes) > 1:
                break
            if parts[2] != b"-":
                return codes.pop(), b"\n".join(text)
        raise NoAnswer(Words("this is not the answer of a mail server"))


class _Incoming:
    """The buffer of received bytes that are not read yet."""

    def __init__(self) -> None:
        self._received = bytearray()

    def read_line(self, sock: socket.socket | None, deadline: float) -> bytes:
        """Return the next line with its line end, cut to the maximum length."""
        while (end := self._received.find(b"\n", 0, _LONGEST_LINE)) < 0:
            if len(self._received) >= _LONGEST_LINE:
                return bytes(self._received[:_LONGEST_LINE])
            if sock is None:
                raise smtplib.SMTPServerDisconnected(Words("the connection has ended"))
            sock.settimeout(_remaining_time(deadline))
            received = sock.recv(_CHUNK)
            if not received:
                raise smtplib.SMTPServerDisconnected(Words("the connection ended during the answer"))
            self._received += received
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        return line

    def close(self) -> None:
        """Discard the buffer; smtplib calls this."""
        self._received.clear()


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    """Connect to the first address of a host that answers; the time-out is for all addresses together."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    deadline = time.monotonic() + timeout
    failure: OSError = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            # Share the remaining time equally among the remaining addresses.
            sock.settimeout(_remaining_time(deadline) / (len(addresses) - number))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _remaining_time(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
