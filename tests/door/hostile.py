"""Hostile requests: what a portal may pass if a client types anything, or an attacker sends anything."""

from collections.abc import Callable, Sequence
from random import Random

JEANNE = "jeanne@example.org"
NETWORKS = 40

_PIECES = (
    "\0", "\n", "\r", "\t", "\x1b[2J", "\x7f", "\u202e", "\u200b", "\ufeff", "\u2028", "é", "山", "\U0001f600", "'",
    '"', "--", "-", ";", ",", "<", ">", "$(id)", "`id`", "%s", "{0}", "${support}", "$support", "../", "=?utf-8?q?a?=",
    "' OR 1=1 --", "Bcc: x@example.org", "@", "@@", "ref:", " ", "\u00a0", "\\", "%00", "&#x0a;", "\ud800",
)  # fmt: skip
_WORDS = (
    JEANNE, JEANNE.upper(), "marc@example.org", "nobody@example.org", "5079512743", "D-2047", "ref:D-2047", "--help",
    "--revoke", "--env-file", "-x@example.org", "jeanne@example", "jeanne", "example.org", "jeanne@xn--a.org",
    "jeanne@straße.example", "JEANNE@EXAMPLE.ORG.", "jeanne@127.0.0.1", "jeanne@[::1]", "a" * 64 + "@example.org",
    "a" * 65 + "@example.org", "jeanne@" + "a." * 120 + "org",
)  # fmt: skip


def make_request(seed: int, number: int) -> bytes:
    """Return the standard input of one request of a series."""
    random = Random(f"{seed} {number}")
    return random.choices(_KINDS, (6, 6, 4, 3, 2, 1))[0](random)


def _known(random: Random) -> bytes:
    blanks = [random.choice(("", " ", "\u00a0", "\t", "\u200b")) for _ in range(2)]
    email = "".join(random.choice((c.lower(), c.upper())) for c in random.choice((JEANNE, "marc@example.org")))
    return f"{blanks[0]}{email}{blanks[1]}\n{_origin(random)}".encode()


def _mutated(random: Random) -> bytes:
    text = list(random.choice(_WORDS))
    for _ in range(random.randrange(4)):
        text.insert(random.randrange(len(text) + 1), random.choice(_PIECES))
    return f"{''.join(text)}\n{_origin(random)}".encode(errors="surrogatepass")


def _several(random: Random) -> bytes:
    lines = [random.choice(_WORDS) for _ in range(random.randrange(1, 5))]
    return random.choice(("\n", "\r\n", ",", ";", " ", "\0")).join(lines).encode()


def _noise(random: Random) -> bytes:
    return random.randbytes(random.randrange(3000))


def _repeated(random: Random) -> bytes:
    piece = random.choice((*_PIECES, *_WORDS)).encode(errors="surrogatepass")
    return piece * random.randrange(1, 500)


def _huge(random: Random) -> bytes:
    size = 10_000_000 if random.random() < 0.05 else 100_000
    return random.choice((b"x", b"\0", b"\n", b"a@b.fr\n", b"\xff")) * size


_KINDS: Sequence[Callable[[Random], bytes]] = (_known, _mutated, _several, _noise, _repeated, _huge)


def _origin(random: Random) -> str:
    number = random.randrange(NETWORKS)
    return random.choice(
        (
            "", f"10.0.{number}.{random.randrange(256)}", f"::ffff:10.0.{number}.1", f"2001:db8:0:{number}::1",
            "localhost", "10.0.0.1:80", "999.1.1.1", "10.0.0.1\n10.0.0.2", "fe80::1%eth0", "\0",
        )
    )  # fmt: skip
