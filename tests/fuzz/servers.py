"""Mail servers for the cases: one that works, one that hangs up, one that talks nonsense, and a closed port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.smtp_server import MailServer

ANSWERS = (
    b"250 x\r\n",
    b"354 x\r\n",
    b"\xff\x00\r\n",
    b"421 x\r\n",
    b"550 " + b"x" * 2_000 + b"\r\n",
    b"250-x\r\n",
    b"452 x\r\n",
    b"\r\n",
)


@contextmanager
def running() -> Iterator[tuple[int, ...]]:
    """Run the servers; give their ports, the first one of which works."""
    with ExitStack() as stack:
        mail_server = stack.enter_context(MailServer())
        works = int(mail_server.url.partition("?")[0].rpartition(":")[2])
        yield works, stack.enter_context(_listening(talks=False)), stack.enter_context(_listening(talks=True)), 1


@contextmanager
def _listening(*, talks: bool) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, talks), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket, talks: bool) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if talks:
            threading.Thread(target=_talk, args=(connection,), daemon=True).start()
        else:
            connection.close()


def _talk(connection: socket.socket) -> None:
    with connection:
        try:
            connection.sendall(b"220 x\r\n")
            while heard := connection.recv(65_536):
                connection.sendall(ANSWERS[sum(heard) % len(ANSWERS)])
        except OSError:
            return
