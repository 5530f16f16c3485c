"""Values for options, settings and files: plausible ones, and ones that break programs."""

from collections.abc import Callable
from random import Random

EMAILS = ("jeanne@example.org", "marc@example.org", "paul@example.org", "elodie@example.org")
IDENTIFIERS = ("7130279332", "5079512743", "2938475610", "8347561029")
CLIENTS = (*EMAILS, *IDENTIFIERS, "ref:D-1", "ref:D-2047", "new@example.org", "9999999999", "ref:D-9")
# Bytes that are not UTF-8 are what os.fsdecode makes of them.
NASTY = (
    "", " ", "-", "--", "-1", "0", "~", ".", "..", "/", "'", '"', "\\", "\n", "\t", "\r\nBcc: x@example.org",
    "\x1b[31m",
    "\x7f", "\u202e", "\u200b", "\u2028", "\ufeff", "\U0001f600", "\udcff", "caf\udce9", "\udced\udca0\udc80",
    "e\u0301",
    "été", "山田", "a" * 300, "é" * 5_000, "x" * 60_000, "=cmd|'/C calc'!A0", "a;=1+1", "%s%n", "{0}{x}", "$name",
    "${HOME}",
    "[/]", "[red]x", "<b>&amp;", "null", "None", "true", "NaN", "inf", "-inf", "1e309", "0x10", "٣٤",
    "\uff11\uff12\uff13",
    "0000000000", "'; DROP TABLE client; --", "../../../x", "nul\\0", "%00", "%ff%fe", "=?utf-8?q?J=0D=0A?=",
    "ref:", "ref:\udcff",
    "a@b", "@", "a@", "@b.fr", "a@b@c.fr", "é@été.fr", "a@" + "d" * 300 + ".fr", "a" * 65 + "@example.org",
    "a@xn--.fr",
    "a@example.org,b@example.org", '"a b"@example.org', "a@[127.0.0.1]", "$2b$12$", "$2b$04$" + "." * 53,
    "$2b$99$" + "x" * 53,
)  # fmt: skip
NUMBERS = (
    "0",
    "1",
    "2",
    "10",
    "-1",
    "",
    "abc",
    "1.5",
    "1e3",
    "٣",
    "2147483648",
    "9" * 19,
    "9" * 40,
    " 1",
    "1_000",
    "+1",
)
DATES = (
    "2026-01-01", "2026-11-28", "90d", "1d", "0d", "-1d", "2026-13-45", "2026-02-30", "0001-01-01",
    "9999-12-31", "10000-01-01",
    "99999999999d", "1e9d", "24h", "2026-01-01T00:00:00Z", "2026-01-01T25:00", "-0001-01-01", "d", "yesterday",
    "٣d", "3650000d",
)  # fmt: skip
FILES = (
    "clients.csv", "clients.jsonl", "logins.csv", "list.txt", "mail.eml", "maildir", "egec.db", "copy.db",
    "new.out", "none", "pipe",
    "null", "folder", "empty", "noise", "huge.csv", "loop", "nowhere/x", "-", "\udcff.csv",
)  # fmt: skip


def nasty(random: Random) -> str:
    """Return a value that breaks programs, or a mixture of two."""
    one = random.choice(NASTY)
    return one if random.random() < 0.7 else (one + random.choice(NASTY))[:100_000]


def likely(random: Random, plausible: Callable[[Random], str], share: float = 0.75) -> str:
    """Return a plausible value in this share of the calls, else one that breaks programs."""
    return plausible(random) if random.random() < share else nasty(random)


def client(random: Random) -> str:
    """Return what names a client."""
    return likely(random, lambda it: it.choice(CLIENTS))


def email(random: Random) -> str:
    """Return an e-mail address."""
    return likely(random, lambda it: it.choice([*EMAILS, f"c{it.randrange(100)}@example.org"]))


def number(random: Random) -> str:
    """Return a number for an option."""
    return likely(random, lambda it: it.choice([*NUMBERS, str(it.randrange(200))]), 0.95)


def date(random: Random) -> str:
    """Return a date or an age."""
    return likely(random, lambda it: it.choice(DATES), 0.9)


def file(random: Random, *, written: bool = False) -> str:
    """Return the name of a file in the case's folder; to write to, also that of a device that is always full."""
    return likely(random, lambda it: it.choice([*FILES, "full"] if written else FILES), 0.95)


def host(random: Random) -> str:
    """Return a host that needs no name server: a loopback address, or none."""
    return random.choice(
        ["127.0.0.1", "localhost", "[::1]", "[::1", "", "[é]", "127.0.0.1%", "\udcff", "[fe80::1%lo]", "a b", "..."]
    )


def url(random: Random, servers: tuple[int, ...], *, mail: bool) -> str:
    """Return a URL of a database or a mail server, as a whole or with something wrong about it.

    Args:
        random: the case's.
        servers: the ports of servers that answer somehow.
        mail: whether it is that of a mail server.
    """
    schemes = ["smtp", "smtps", "sendmail", "maildir"] if mail else ["sqlite", "postgresql", "postgres"]
    if random.random() < 0.1:
        return nasty(random)
    scheme = random.choice(schemes) if random.random() < 0.95 else random.choice(["", "http", "SQLITE", "smtp+x", "é"])
    if scheme in {"sqlite", "maildir", "sendmail"}:
        path = random.choice(["egec.db", "mail", "none/x", "folder", "noise", "empty", "pipe", "null", "",
        "%00", "%ff", "~", "\udcff",
                              "x" * 300, "a b", "mail?x=1", "egec.db#x", "loop", ":memory:", "program"])  # fmt: skip
        return f"{scheme}:{'///' if scheme == 'sqlite' else ''}{path}"
    user = random.choice(["", "", "u@", "u:p@", ":@", "u:%ff@", "u:%00p@", "é:é@", "u:" + "p" * 2_000 + "@"])
    port = random.choice(["", ":1", ":0", ":-1", ":99999", ":abc", ":", *[f":{one}" for one in servers if mail], ":2"])
    path = random.choice(["", "/", "/egec", "/%00", "/%ff", "/a/b", "/" + "x" * 300])
    keys = (
        ["tls", "ca", "x"]
        if mail
        else ["connect_timeout", "sslmode", "sslkey", "sslrootcert", "host", "options", "application_name", "x"]
    )
    values = [
        "",
        "1",
        "abc",
        "none",
        "required",
        "disable",
        "verify-full",
        "%ff",
        "%00",
        "folder",
        "pipe",
        "noise",
        "-c x",
        "-1",
        "9" * 20,
    ]
    query = "&".join(f"{random.choice(keys)}={random.choice(values)}" for _ in range(random.choice([0, 0, 1, 1, 2])))
    return f"{scheme}://{user}{host(random)}{port}{path}" + (f"?{query}" if query else "")
