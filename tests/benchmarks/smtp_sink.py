"""An SMTP server on loopback that takes every mail and keeps none, as cheap as can be: one thread, bare sockets.

    python tests/benchmarks/smtp_sink.py [SECONDS]

It prints its port, then serves until it is killed. SECONDS is how long each reply is held back from the arrival of its
command, like that of a distant or slow relay; then no PIPELINING is offered, for it would hide most of that. A
connection never waits for another one. The command XCOUNT, never delayed, returns the number of mails taken so far
and how many bytes they were.
"""

import selectors
import socket
import sys
import time
from collections import deque

END_OF_MAIL = b"\r\n.\r\n"
RECEIVE = 1 << 16
REPLIES = {
    b"HELO": b"250 sink\r\n",
    b"MAIL": b"250 OK\r\n",
    b"RCPT": b"250 OK\r\n",
    b"RSET": b"250 OK\r\n",
    b"NOOP": b"250 OK\r\n",
    b"DATA": b"354 Go ahead\r\n",
    b"QUIT": b"221 Goodbye\r\n",
}


class Connection:
    """One client: what it has sent and was not yet looked at, and whether that is part of a mail."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.received = bytearray()
        self.looked_at = 0
        self.is_in_mail = False
        self.is_open = True


class Sink:
    """The server: its connections, the replies that are held back, and what it has counted."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        extensions = [b"8BITMIME", b"SIZE 10485760"] if delay else [b"PIPELINING", b"8BITMIME", b"SIZE 10485760"]
        lines = [b"sink", *extensions]
        self._replies = {b"EHLO": b"".join(b"250-%s\r\n" % line for line in lines[:-1]) + b"250 %s\r\n" % lines[-1]}
        self._replies |= REPLIES
        self._held_back: deque[tuple[float, Connection, bytes]] = deque()
        self._mails = self._bytes = 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Serve for ever."""
        while True:
            wait = max(0.0, self._held_back[0][0] - time.monotonic()) if self._held_back else None
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    self._accept()
                else:
                    self._receive(key.data)
            # All are held back for as long, so the first is always the one that is due first.
            while self._held_back and self._held_back[0][0] <= time.monotonic():
                _, connection, reply = self._held_back.popleft()
                self._send(connection, reply)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client)
        self._selector.register(client, selectors.EVENT_READ, connection)
        self._reply(connection, b"220 sink ESMTP\r\n")

    def _receive(self, connection: Connection) -> None:
        try:
            chunk = connection.client.recv(RECEIVE)
        except ConnectionError:
            chunk = b""
        if not chunk:
            self._close(connection)
            return
        connection.received += chunk
        replies = b""
        while (reply := self._next_reply(connection)) is not None:
            replies += reply
        if replies:
            self._reply(connection, replies)

    def _next_reply(self, connection: Connection) -> bytes | None:
        """Take a command or a mail out of what was received and return the reply to it; None where none is whole."""
        received = connection.received
        end_mark = END_OF_MAIL if connection.is_in_mail else b"\r\n"
        end = received.find(end_mark, connection.looked_at)
        if end < 0:
            connection.looked_at = max(0, len(received) - len(end_mark) + 1)
            return None
        connection.looked_at = 0
        taken = end + len(end_mark)
        if connection.is_in_mail:
            self._mails += 1
            self._bytes += taken
            connection.is_in_mail = False
            reply = b"250 Taken\r\n"
        else:
            verb = bytes(received[:4]).upper()
            connection.is_in_mail = verb == b"DATA"
            reply = self._replies.get(verb, b"500 What?\r\n")
            if verb == b"XCOU":
                self._send(connection, b"250 %d %d\r\n" % (self._mails, self._bytes))
                reply = b""
        del received[:taken]
        return reply

    def _reply(self, connection: Connection, reply: bytes) -> None:
        if self._delay:
            self._held_back.append((time.monotonic() + self._delay, connection, reply))
        else:
            self._send(connection, reply)

    def _send(self, connection: Connection, reply: bytes) -> None:
        if not connection.is_open:
            return
        try:
            connection.client.sendall(reply)
        except OSError:
            self._close(connection)
        else:
            if reply.endswith(REPLIES[b"QUIT"]):
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            self._selector.unregister(connection.client)
            connection.client.close()


def main() -> None:
    """Say the port and serve."""
    sink = Sink(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)
    print(sink.port, flush=True)
    sink.serve()


if __name__ == "__main__":
    main()
