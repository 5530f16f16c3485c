"""A real SMTP server on loopback that can fail at every point of the dialogue.

It runs in a thread of the test process; `egec` reaches it like any other server, from this process or another:

    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as server:
        server.fail_next(Fault.RCPT_451, Fault.NONE, Fault.CUT_AFTER_KEEPING)
        ...                        # three mails to server.url: refused, accepted, in doubt
        assert len(server.accepted) == 2
"""

import asyncio
import atexit
import base64
import functools
import itertools
import quopri
import re
import shutil
import socket
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import AnyStr, NamedTuple, Self
from urllib.parse import quote

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, TLSSetupException

from egec_cli.settings.types import Tls
from tests.tokens import USER, Tokens

HOST = "127.0.0.1"
Call = Callable[[], object]
Login = tuple[str, str]


class Point(Enum):
    """A point of the dialogue, reached before the server answers."""

    BANNER = auto()  # the client has connected
    EHLO = auto()
    STARTTLS = auto()
    LOGIN = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    MESSAGE = auto()  # the final dot has arrived, the mail is not kept yet
    KEPT = auto()  # the mail is kept, the answer is not sent yet
    QUIT = auto()


class Step(Enum):
    """What the server does in a fault besides sending bytes."""

    HEAR = auto()  # wait until the client sends something
    HUSH = auto()  # say nothing more, ever
    HANG_UP = auto()


HEAR, HUSH, HANG_UP = Step.HEAR, Step.HUSH, Step.HANG_UP
SECONDS_BETWEEN_DRIPS = 0.02
# Of SASL, in base64.
LONGEST_RESPONSE = 12_288


class Drip(NamedTuple):
    """A step: send `first`, then `again` over and over, one byte at a time and for ever."""

    first: bytes
    again: bytes


# Answers that never end, in each way an answer can continue, and a TLS record that never ends.
DRIPPED_LINE = Drip(b"250 ", b"x")
DRIPPED_LINES = Drip(b"250-a\r\n", b"250-b\r\n")
DRIPPED_RECORD = Drip(b"\x16\x03\x03\x40\x00", b"\0")


class Fault(Enum):
    """A failure: the point at which it occurs, then what the server sends and does instead of its answer.

    In the bytes sent, `{heard}` stands for what the client sent last (the whole mail after the dot), on one line.
    `{head}` and `{tail}` are the two halves of the password in it, and `{base64}` is its base64.
    """

    NONE = (Point.KEPT,)  # no failure: lets one mail pass in a queue of faults

    NO_BANNER = Point.BANNER, HUSH  # accepts the connection and stays silent
    CUT_AT_BANNER = Point.BANNER, HANG_UP
    BANNER_421 = Point.BANNER, b"421 Too busy\r\n", HANG_UP
    BANNER_554 = Point.BANNER, b"554 No mail here\r\n", HANG_UP
    BANNER_OF_ANOTHER_PROTOCOL = Point.BANNER, b"HTTP/1.1 400 Bad Request\r\n\r\n", HANG_UP

    DRIPPED_BANNER = Point.BANNER, Drip(b"220 ", b"x")
    DRIPPED_BANNER_LINES = Point.BANNER, Drip(b"", b"220-a\r\n")

    SILENT_AT_EHLO = Point.EHLO, HUSH
    DRIPPED_EHLO = Point.EHLO, DRIPPED_LINES
    EHLO_OF_ENDLESS_LINES = Point.EHLO, 10_000 * b"250-and\r\n", HUSH
    EHLO_WITHOUT_END = Point.EHLO, b"250 " + 100_000 * b"x", HUSH
    CUT_AT_EHLO = Point.EHLO, HANG_UP
    OFFERS_LOGIN_BY_TOKEN = Point.EHLO, b"250-localhost\r\n250 AUTH XOAUTH2\r\n"  # and no other
    OFFERS_AUTH_LOGIN = Point.EHLO, b"250-localhost\r\n250 AUTH LOGIN\r\n"  # user and password apart, not AUTH PLAIN

    STARTTLS_454 = Point.STARTTLS, b"454 No TLS now\r\n"
    DRIPPED_STARTTLS = Point.STARTTLS, Drip(b"220 ", b"x")
    DRIPPED_HANDSHAKE = Point.STARTTLS, b"220 Go ahead\r\n", HEAR, DRIPPED_RECORD
    SILENT_IN_HANDSHAKE = Point.STARTTLS, b"220 Go ahead\r\n", HUSH
    CUT_IN_HANDSHAKE = Point.STARTTLS, b"220 Go ahead\r\n", HEAR, HANG_UP
    NO_TLS_IN_HANDSHAKE = Point.STARTTLS, b"220 Go ahead\r\n", HEAR, b"500 What?\r\n", HANG_UP

    LOGIN_454 = Point.LOGIN, b"454 4.7.0 No logins now\r\n"
    LOGIN_535 = Point.LOGIN, b"535 5.7.8 No such login\r\n"
    LOGIN_535_LIKE_MICROSOFT = (
        Point.LOGIN,
        b"535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. "
        b"Visit https://aka.ms/smtp_auth_disabled for more information. [PR0P264CA0123.FRAP264.PROD.OUTLOOK.COM]\r\n",
    )
    LOGIN_WITH_BROKEN_CHALLENGE = Point.LOGIN, b"334 a\r\n"  # no base64
    LOGIN_THAT_QUOTES = Point.LOGIN, b"334 UGFzc3dvcmQ6\r\n", HEAR, b"535 No such login: {heard}\r\n"
    LOGIN_THAT_QUOTES_OVER_LINES = Point.LOGIN, b"535-Pa55\r\n535-:wo\r\n535 /rd\r\n"
    SILENT_AT_LOGIN = Point.LOGIN, HUSH
    DRIPPED_LOGIN = Point.LOGIN, Drip(b"235 ", b"x")
    DRIPPED_CHALLENGE = Point.LOGIN, b"334 UGFzc3dvcmQ6\r\n", HEAR, Drip(b"235-", b"a\r\n235-")
    CUT_AT_LOGIN = Point.LOGIN, HANG_UP

    MAIL_421 = Point.MAIL, b"421 Shutting down\r\n", HANG_UP
    MAIL_451 = Point.MAIL, b"451 Not now\r\n"
    MAIL_530 = Point.MAIL, b"530 5.7.0 Authentication required\r\n"
    MAIL_550 = Point.MAIL, b"550 No such sender\r\n"
    SILENT_AT_MAIL = Point.MAIL, HUSH
    DRIPPED_MAIL = Point.MAIL, DRIPPED_LINE
    CUT_AT_MAIL = Point.MAIL, HANG_UP

    RCPT_251 = Point.RCPT, b"251 Will forward\r\n"  # no failure: accepts the recipient with this code
    RCPT_421 = Point.RCPT, b"421 Shutting down\r\n", HANG_UP
    RCPT_451 = Point.RCPT, b"451 Not now\r\n"
    RCPT_550 = Point.RCPT, b"550 No such recipient\r\n"
    RCPT_550_USER_UNKNOWN = Point.RCPT, b"550 5.1.1 User unknown\r\n"
    RCPT_550_POLICY = Point.RCPT, b"550 5.7.1 Your address is on a block list\r\n"
    SILENT_AT_RCPT = Point.RCPT, HUSH
    RCPT_WITHOUT_CODE = Point.RCPT, b"Thank you\r\n"
    DRIPPED_RCPT = Point.RCPT, DRIPPED_LINE
    CUT_AT_RCPT = Point.RCPT, HANG_UP

    DATA_421 = Point.DATA, b"421 Shutting down\r\n", HANG_UP
    DATA_451 = Point.DATA, b"451 Not now\r\n"
    DATA_554 = Point.DATA, b"554 No\r\n"
    SILENT_AT_DATA = Point.DATA, HUSH
    DRIPPED_354 = Point.DATA, Drip(b"354 ", b"x")
    CUT_BEFORE_354 = Point.DATA, HANG_UP
    CUT_IN_354 = Point.DATA, b"35", HANG_UP
    CUT_AT_THE_END_OF_354 = Point.DATA, b"354", HANG_UP  # the line has no end

    CUT_IN_MESSAGE = Point.DATA, b"354 Go ahead\r\n", HEAR, HANG_UP
    SILENT_IN_MESSAGE = Point.DATA, b"354 Go ahead\r\n", HEAR, HUSH

    MESSAGE_421 = Point.MESSAGE, b"421 Shutting down\r\n", HANG_UP
    MESSAGE_451 = Point.MESSAGE, b"451 Not now\r\n"
    MESSAGE_554 = Point.MESSAGE, b"554-We take\r\n554 no such thing\r\n"
    CUT_BEFORE_KEEPING = Point.MESSAGE, HANG_UP
    SILENT_BEFORE_KEEPING = Point.MESSAGE, HUSH
    CUT_IN_REFUSAL = Point.MESSAGE, b"55", HANG_UP
    CUT_AT_THE_END_OF_REFUSAL = Point.MESSAGE, b"554", HANG_UP  # the line has no end
    CUT_AFTER_FIRST_LINE_OF_REFUSAL = Point.MESSAGE, b"554-We take\r\n", HANG_UP
    REFUSAL_THAT_QUOTES = Point.MESSAGE, b"554 This is spam: {heard}\r\n"
    REFUSAL_THAT_QUOTES_OVER_LINES = Point.MESSAGE, b"554-This is spam:\r\n554-{head}\r\n554 {tail}\r\n"
    REFUSAL_THAT_QUOTES_IN_BASE64 = Point.MESSAGE, b"554 5.6.0 This is spam: {base64}\r\n"

    CUT_AFTER_KEEPING = Point.KEPT, HANG_UP
    SILENT_AFTER_KEEPING = Point.KEPT, HUSH
    DRIPPED_ANSWER = Point.KEPT, DRIPPED_LINE
    DRIPPED_ANSWER_LINES = Point.KEPT, DRIPPED_LINES
    DRIPPED_REFUSAL = Point.MESSAGE, Drip(b"554 ", b"x")
    ANSWER_354 = Point.KEPT, b"354 Go ahead\r\n"  # no answer to a message: RFC 5321, 4.3.2
    CUT_IN_ANSWER = Point.KEPT, b"25", HANG_UP
    CUT_AT_THE_END_OF_ANSWER = Point.KEPT, b"250", HANG_UP  # the line has no end
    CUT_AFTER_FIRST_LINE_OF_ANSWER = Point.KEPT, b"250-first\r\n", HANG_UP
    ANSWER_OF_TWO_MINDS = Point.KEPT, b"554-no, that is\r\n250 yes\r\n"
    ANSWER_WITHOUT_CODE = Point.KEPT, b"Thank you\r\n"
    ANSWER_WITHOUT_END = Point.KEPT, b"250 " + 10_000 * b"x", HANG_UP  # a line longer than any may be
    ANSWER_OF_ENDLESS_LINES = Point.KEPT, 10_000 * b"250-and\r\n", HUSH
    ANSWER_299 = Point.KEPT, b"299 {heard}\r\n"  # no code of RFC 5321, and it quotes the mail
    ANSWER_THAT_QUOTES = Point.KEPT, b"250 Got it: {heard}\r\n"
    ANSWER_THAT_QUOTES_OVER_LINES = Point.KEPT, b"250-Got it:\r\n250-{head}\r\n250 {tail}\r\n"
    ANSWER_THAT_QUOTES_IN_BASE64 = Point.KEPT, b"250 2.0.0 Got it: {base64}\r\n"
    ANSWER_WITH_CONTROL_CHARACTERS = Point.KEPT, b"250 \x1b[31mred\x1b]0;title\x07 \x00\x9b2J\xe2\x80\xae ok\r\n"

    QUIT_421 = Point.QUIT, b"421 Shutting down\r\n", HANG_UP
    SILENT_AT_QUIT = Point.QUIT, HUSH
    DRIPPED_QUIT = Point.QUIT, Drip(b"221 ", b"x")
    CUT_AT_QUIT = Point.QUIT, HANG_UP

    def __init__(self, point: Point, *steps: bytes | Step | Drip) -> None:
        self.point = point
        self.steps = steps

    @property
    def is_waited_for(self) -> bool:
        """Whether only a timeout ends it."""
        return any(step is HUSH or isinstance(step, Drip) for step in self.steps)


class Answer(NamedTuple):
    """What the server sends and does instead of its answer, at a point; without steps, it answers as usual."""

    steps: tuple[bytes | Step | Drip, ...] = ()
    point: Point | None = None


class Accepted(NamedTuple):
    """A mail that the server keeps, whether or not the client got the answer."""

    sender: str
    recipient: str
    content: bytes


class MailServer:
    """A mail server in its own thread, from `start` (or `with`) to `stop`.

    Args:
        tls: the kind of TLS.
        login: the required user and password (default: none).
        tokens: the access tokens of which a login requires one, for `tests.tokens.USER` (default: none).
        certified_host: the host that its certificate names; any other than `HOST` makes the certificate wrong.
        smtputf8: whether it offers SMTPUTF8.
        eight_bit: whether it offers 8BITMIME; without it, requests for it and non-ASCII content are refused.
        pipelining: whether it offers PIPELINING.
        size_limit: the largest accepted message, in bytes.

    Attributes:
        port: set when it starts; the same when it starts again.
        connections: how many clients have connected; with implicit TLS, those that completed the handshake.
    """

    def __init__(
        self,
        *,
        tls: Tls = Tls.NONE,
        login: Login | None = None,
        tokens: Tokens | None = None,
        certified_host: str = HOST,
        smtputf8: bool = True,
        eight_bit: bool = True,
        pipelining: bool = False,
        size_limit: int = 1_000_000,
    ) -> None:
        self.tls = tls
        self.login = login
        self.tokens = tokens
        self.smtputf8 = smtputf8
        self.eight_bit = eight_bit
        self.pipelining = pipelining
        self.size_limit = size_limit
        self.port = 0
        self.connections = 0
        self._context = None if tls is Tls.NONE else tls_context(certified_host)
        self._thread: threading.Thread | None = None
        self._errors: list[Exception] = []
        # All below is shared by threads, under this lock.
        self._changed = threading.Condition()
        self._accepted: list[Accepted] = []
        self._heard_in_clear = bytearray()
        self._open: set[object] = set()
        self._next: deque[Fault] = deque()
        self._mails_each: int | None = None
        self._always: list[tuple[Fault | Answer, str | None]] = []
        self._calls: list[tuple[Point, Call]] = []

    @property
    def url(self) -> str:
        """The EGEC_MAIL_URL of this server, with its authority and login."""
        scheme = "smtps" if self.tls is Tls.IMPLICIT else "smtp"
        user = "{}:{}@".format(*(quote(part, safe="") for part in self.login)) if self.login else ""
        if self.tokens:
            user = f"{quote(USER, safe='')}@"
        options = {
            Tls.NONE: "?tls=none",
            Tls.STARTTLS: f"?tls=required&ca={quote(str(authority_file()))}",
            Tls.IMPLICIT: f"?ca={quote(str(authority_file()))}",
        }
        auth = "&auth=oauth" if self.tokens else ""
        return f"{scheme}://{user}{HOST}:{self.port}{options[self.tls]}{auth}"

    @property
    def accepted(self) -> list[Accepted]:
        """The kept mails, the first one first."""
        with self._changed:
            return list(self._accepted)

    @property
    def open_connections(self) -> int:
        """The number of clients that are connected."""
        with self._changed:
            return sum(isinstance(one, Dialogue) for one in self._open)

    @property
    def heard_in_clear(self) -> bytes:
        """Everything that clients have sent outside TLS."""
        with self._changed:
            return bytes(self._heard_in_clear)

    def fail_next(self, *faults: Fault) -> None:
        """Let each of these faults occur once, in this order, when a client reaches its point."""
        with self._changed:
            self._next.extend(faults)

    def fail_always(self, fault: Fault, *, recipient: str | None = None) -> None:
        """Let the fault occur each time, after those of `fail_next`; `recipient` limits it to one address."""
        with self._changed:
            self._always.append((fault, recipient))

    def answer_always(self, point: Point, answer: str) -> None:
        """Give this answer each time a client reaches the point."""
        with self._changed:
            self._always.append((Answer((f"{answer}\r\n".encode(),), point), None))

    def close_after(self, mails: int) -> None:
        """Close each connection with 421 at the mail after this number of mails."""
        with self._changed:
            self._mails_each = mails

    def work_again(self) -> None:
        """Forget all faults."""
        with self._changed:
            self._next.clear()
            self._always.clear()

    def at(self, point: Point, call: Call) -> None:
        """Call this each time a client reaches the point, before a fault occurs or the answer is sent.

        It runs in its own thread and may block: its client waits, other clients do not. Once the final dot has arrived,
        the outcome of the mail no longer depends on its client. `stop` raises what `call` raised. `call` must not stop
        the server.
        """
        with self._changed:
            self._calls.append((point, call))

    def wait_until_quiet(self, seconds: float = 10) -> None:
        """Wait until no client is connected and no mail is being processed: then `accepted` is final."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._open, seconds):
                raise TimeoutError(f"a client was still connected after {seconds:g} s")

    def start(self) -> None:
        """Listen: on a free port the first time, on the same one afterwards."""
        listening = socket.create_server((HOST, self.port))
        # asyncio sets this only on sockets that it makes. Without it, each answer of several lines takes 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="mail server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cut all connections and refuse new ones, unless it has stopped already.

        Raises:
            ExceptionGroup: the errors of the server and of calls of `at`.
        """
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None
        if self._errors:
            errors, self._errors = self._errors, []
            raise ExceptionGroup("in the mail server", errors)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        implicit = self._context if self.tls is Tls.IMPLICIT else None
        server = await self._loop.create_server(lambda: Dialogue(self, self._loop), sock=listening, ssl=implicit)
        await self._stopping.wait()
        server.close()
        while self._open:
            for busy in list(self._open):
                if isinstance(busy, Dialogue):
                    busy.break_off()
            await asyncio.sleep(0.001)
        await server.wait_closed()

    async def answer_at(self, point: Point, dialogue: "Dialogue") -> Fault | Answer:
        """Return what the server does instead of its answer when a client reaches a point."""
        return self._fault_at(point, dialogue.recipient)

    # The methods below are for `Dialogue`, in the server's thread.

    def _opened(self, busy: object) -> None:
        with self._changed:
            self._open.add(busy)
            self._changed.notify_all()

    def _closed(self, busy: object) -> None:
        with self._changed:
            self._open.discard(busy)
            self._changed.notify_all()

    def _hear_in_clear(self, data: bytes) -> None:
        with self._changed:
            self._heard_in_clear += data

    def _keep(self, envelope: Envelope) -> None:
        assert envelope.mail_from is not None
        assert isinstance(envelope.content, bytes)
        for recipient in envelope.rcpt_tos:
            with self._changed:
                self._accepted.append(Accepted(envelope.mail_from, recipient, envelope.content))

    def _calls_at(self, point: Point) -> list[Call]:
        with self._changed:
            return [call for at, call in self._calls if at is point]

    def _fault_at(self, point: Point, recipient: str) -> Fault | Answer:
        with self._changed:
            if self._next and self._next[0].point is point:
                return self._next.popleft()
            for fault, only in self._always:
                if fault.point is point and only in {None, recipient}:
                    return fault
        return Fault.NONE


class Dialogue(SMTP):
    """One connection.

    Attributes:
        recipient: the address of the last RCPT command.
    """

    def __init__(self, server: MailServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            _Handler(server),
            hostname="localhost",
            data_size_limit=server.size_limit,
            enable_SMTPUTF8=server.smtputf8,
            tls_context=server._context if server.tls is Tls.STARTTLS else None,
            require_starttls=server.tls is Tls.STARTTLS,
            auth_require_tls=False,  # aiosmtpd knows only STARTTLS; `_Handler` keeps logins out of clear text
            authenticator=_authenticator(server.login),
            loop=loop,
        )
        self._server = server
        self._greeted = False
        self.recipient = ""
        self._token = ""
        self._mails = 0
        self._heard = b""
        self._hears = asyncio.Event()

    @property
    def private(self) -> bool:
        """Whether the connection is within TLS."""
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is not None

    def hang_up(self) -> None:
        """Close the connection after sending what is buffered."""
        if self.transport is not None:
            self.transport.close()

    def break_off(self) -> None:
        """Cut the connection immediately."""
        # asyncio of Python 3.11.2 fails for a connection with TLS that was closed twice: there is nothing left to cut.
        with suppress(AttributeError):
            if isinstance(self.transport, asyncio.Transport):
                self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._greeted:  # otherwise the same connection has switched to TLS
            self._server.connections += 1
            self._server._opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._server._closed(self)

    def data_received(self, data: bytes) -> None:
        if not self.private:
            self._server._hear_in_clear(data)
        self._heard = data
        self._hears.set()
        super().data_received(data)

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # a client that has left gets nothing more

    async def push(self, status: AnyStr | None) -> None:
        if not self._greeted:
            self._greeted = True
            if await self._reach(Point.BANNER):
                return
        if status is not None:
            await super().push(status)

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802 - aiosmtpd's name, as those below
        if not await self._reach(Point.EHLO):
            await super().smtp_EHLO(hostname)

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        if not await self._reach(Point.STARTTLS):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        if not await self._reach(Point.LOGIN):
            await super().smtp_AUTH(arg)

    async def auth_XOAUTH2(self, _: object, arguments: list[str]) -> AuthResult:  # noqa: N802
        return await self._log_in_by_token("XOAUTH2", arguments)

    async def auth_OAUTHBEARER(self, _: object, arguments: list[str]) -> AuthResult:  # noqa: N802
        return await self._log_in_by_token("OAUTHBEARER", arguments)

    async def _log_in_by_token(self, mechanism: str, arguments: list[str]) -> AuthResult:
        tokens = self._server.tokens
        if tokens is None or mechanism not in tokens.mechanisms:
            return AuthResult(success=False, handled=False, message="504 5.5.4 Not offered")
        # The response to a challenge may be longer than a command (RFC 4954, 4).
        self._reader._limit = 2 * LONGEST_RESPONSE  # type: ignore[attr-defined] # it has no other way
        response = (
            base64.b64decode(arguments[1], validate=True) if len(arguments) > 1 else await self.challenge_auth(b"")
        )
        assert isinstance(response, bytes)
        token = tokens.accept(mechanism, response)
        if token is not None:
            self._token = token
            return AuthResult(success=True, handled=True)
        if tokens.explains:
            challenge, wanted = tokens.error(mechanism)
            if await self.challenge_auth(challenge) != wanted:
                return AuthResult(success=False, handled=False, message="501 5.5.2 Wrong answer to the error")
        quoted = f" {base64.b64encode(response).decode()}"[:400] if tokens.quotes else ""
        return AuthResult(success=False, handled=False, message=f"535 5.7.8 The token is not valid{quoted}")

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        if await self._reach(Point.MAIL):
            return
        if self._server._mails_each == self._mails:
            await self.push("421 4.7.0 Too many mails in this connection")
            self.hang_up()
            return
        self._mails += 1
        assert self.session is not None
        if self._server.tokens and self._server.tokens.is_revoked(self._token):
            await self.push("530 5.7.0 The token has expired")
            return
        if (self._server.login or self._server.tokens) and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
            return
        if not self._server.eight_bit and "BODY=" in (arg or ""):
            await self.push("555 5.5.4 BODY= is not offered")
            return
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        self.recipient = (arg or "").partition("<")[2].partition(">")[0]
        fault = await self._come_to(Point.RCPT)
        if fault is Fault.RCPT_251:
            assert self.envelope is not None
            self.envelope.rcpt_tos.append(self.recipient)
        if not await self._play(fault):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        if not await self._reach(Point.DATA):
            await super().smtp_DATA(arg)

    async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
        if not await self._reach(Point.QUIT):
            await super().smtp_QUIT(arg)

    async def take(self, envelope: Envelope) -> str | None:
        """Keep the mail, or fail; return the answer, or None if it was sent."""
        # A separate task: a client that leaves ends the task of its connection.
        task = self._server._loop.create_task(self._keep(envelope))
        self._server._opened(task)
        task.add_done_callback(self._server._closed)
        fault = await asyncio.shield(task)
        assert isinstance(envelope.content, bytes)
        self._heard = envelope.content
        return None if await self._play(fault) else "250 OK"

    async def _keep(self, envelope: Envelope) -> Fault | Answer:
        fault = await self._come_to(Point.MESSAGE)
        if fault.steps:
            return fault
        self._server._keep(envelope)
        return await self._come_to(Point.KEPT)

    async def _reach(self, point: Point) -> bool:
        return await self._play(await self._come_to(point))

    async def _come_to(self, point: Point) -> Fault | Answer:
        for call in self._server._calls_at(point):
            await self._server._loop.run_in_executor(None, call)
        return await self._server.answer_at(point, self)

    async def _play(self, fault: Fault | Answer) -> bool:
        """Let the fault occur; return whether it answered instead of the server."""
        for step in fault.steps:
            if isinstance(step, bytes):
                self._hears.clear()
                assert isinstance(self.transport, asyncio.Transport)
                self.transport.write(self._filled_in(step))
            elif step is HEAR:
                await self._hears.wait()
            elif isinstance(step, Drip):
                await self._drip(step)
            elif step is HUSH:
                await asyncio.Event().wait()
            else:
                self.hang_up()
                await asyncio.Event().wait()  # until the lost connection ends this task
        return bool(fault.steps)

    def _filled_in(self, said: bytes) -> bytes:
        text = quopri.decodestring(self._heard).decode(errors="replace")
        titled = re.search(r"mot de passe (?:est\xa0)?: *\s+(\S+)", text)
        password = titled[1].encode() if titled else b""
        values = {
            b"{heard}": b" ".join(self._heard.split()),
            b"{head}": password[:4],
            b"{tail}": password[4:],
            b"{base64}": base64.b64encode(password),
        }
        for name, value in values.items():
            said = said.replace(name, value)
        return said

    async def _drip(self, step: Drip) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        for byte in itertools.chain(step.first, itertools.cycle(step.again)):
            # The lost connection ends this task.
            self.transport.write(bytes([byte]))
            await asyncio.sleep(SECONDS_BETWEEN_DRIPS)


class _Handler:
    """The hooks that aiosmtpd calls."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name, as that below
        self, dialogue: Dialogue, session: Session, envelope: Envelope, hostname: str, lines: list[str]
    ) -> list[str]:
        session.host_name = hostname
        lines = [line for line in lines if not line.startswith("250-AUTH")]
        if self._server.login is not None and (self._server.tls is Tls.NONE or dialogue.private):
            lines.insert(1, "250-AUTH PLAIN")
        if self._server.tokens is not None and (self._server.tls is Tls.NONE or dialogue.private):
            lines.insert(1, f"250-AUTH {' '.join(self._server.tokens.mechanisms)}")
        if self._server.pipelining:
            lines.insert(1, "250-PIPELINING")
        if not self._server.eight_bit:
            lines = [line for line in lines if line != "250-8BITMIME"]
        return lines

    async def handle_DATA(self, dialogue: Dialogue, session: Session, envelope: Envelope) -> str | None:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        if not (self._server.eight_bit or envelope.smtp_utf8 or envelope.content.isascii()):
            return "554 5.6.1 8-bit content, which is not offered"
        return await dialogue.take(envelope)

    async def handle_exception(self, error: Exception) -> str:
        if not isinstance(error, ConnectionError | TLSSetupException):
            self._server._errors.append(error)
        return "451 Internal error of the mail server"


def _authenticator(login: Login | None) -> Callable[..., AuthResult]:
    def authenticate(
        dialogue: Dialogue, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
    ) -> AuthResult:
        return AuthResult(success=login == (given.login.decode(), given.password.decode()), handled=False)

    return authenticate


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def authority_file() -> Path:
    """Return a file with the certificate of the servers' authority; it is deleted when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="egec-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _authority().cert_pem.write_to_path(str(folder / "ca.pem"))
    return folder / "ca.pem"


def tls_context(host: str) -> ssl.SSLContext:
    """Return the context of a server whose certificate names this host."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _authority().issue_cert(host).configure_cert(context)
    return context
