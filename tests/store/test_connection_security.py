"""A password of PostgreSQL reaches no false server: what is added to a URL, and real connections to false servers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import trustme

from egec_cli.errors import ConfigError
from egec_cli.store import connection_security as security
from tests.conftest import Egec

NEW_LIBPQ, OLD_LIBPQ = 160000, 150000
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
DEFAULTS = {
    "sslmode": "verify-full",
    "gssencmode": "disable",
    "sslrootcert": BUNDLE,
    "require_auth": "scram-sha-256",
}
# TEST-NET-1: not a loopback address, though a network namespace may give it to its own interface.
ADDRESS = "192.0.2.1"
PASSWORD = "Geheim-4711"


def secured(asked: dict[str, str], environ: dict[str, str] | None = None, libpq: int = NEW_LIBPQ) -> dict[str, str]:
    return security.secured(asked, environ or {}, libpq=libpq, is_file=lambda path: path == BUNDLE)


@pytest.mark.parametrize(
    ("asked", "environ", "leaves"),
    [
        ({}, {}, False),
        ({"host": "/run/postgresql"}, {}, False),
        ({"host": "@abstract"}, {}, False),
        ({"host": "localhost"}, {}, False),
        ({"host": "LocalHost"}, {}, False),
        ({"host": "127.0.0.1"}, {}, False),
        ({"host": "127.255.0.9"}, {}, False),
        ({"host": "::1"}, {}, False),
        ({"host": "localhost,/run/postgresql"}, {}, False),
        ({"host": "db.example.org"}, {}, True),
        ({"host": "localhost.example.org"}, {}, True),
        ({"host": "127.0.0.1.example.org"}, {}, True),
        ({"host": "127.999.0.1"}, {}, True),
        ({"host": "127.1"}, {}, True),
        ({"host": "0.0.0.0"}, {}, True),
        ({"host": "::ffff:192.0.2.1"}, {}, True),
        ({"host": "localhost,db.example.org"}, {}, True),
        ({"host": "/run/postgresql,db"}, {}, True),
        ({"host": "localhost", "hostaddr": "192.0.2.1"}, {}, True),
        ({"host": "db.example.org", "hostaddr": "127.0.0.1"}, {}, False),
        ({"host": "db,localhost", "hostaddr": ",127.0.0.1"}, {}, True),
        ({"host": "db,db", "hostaddr": "127.0.0.1,192.0.2.1"}, {}, True),
        ({}, {"PGHOST": "db"}, True),
        ({"host": "localhost"}, {"PGHOST": "db"}, False),
        ({"host": "localhost"}, {"PGHOSTADDR": "192.0.2.1"}, True),
        ({"host": "db"}, {"PGHOSTADDR": "127.0.0.1"}, False),
    ],
)
def test_what_leaves_this_machine(asked: dict[str, str], environ: dict[str, str], leaves: bool) -> None:
    assert security.leaves_this_machine(asked, environ) is leaves
    assert secured(asked, environ) == (DEFAULTS if leaves else {})


@pytest.mark.parametrize(
    ("asked", "added"),
    [
        ({"sslmode": "verify-full"}, {"gssencmode", "sslrootcert", "require_auth"}),
        ({"sslmode": "verify-ca"}, {"require_auth"}),
        ({"sslmode": "disable"}, {"require_auth"}),
        ({"sslrootcert": "/own.pem"}, {"sslmode", "gssencmode", "require_auth"}),
        ({"require_auth": "password"}, {"sslmode", "gssencmode", "sslrootcert"}),
        ({"gssencmode": "prefer"}, {"sslmode", "sslrootcert", "require_auth"}),
    ],
)
def test_what_the_url_says_is_left_as_it_is(asked: dict[str, str], added: set[str]) -> None:
    options = secured({"host": "db", **asked})
    assert options == {name: DEFAULTS[name] for name in added}


def test_the_environment_does_not_weaken_the_connection() -> None:
    weak = {"PGSSLMODE": "disable", "PGREQUIREAUTH": "password", "PGGSSENCMODE": "prefer"}
    assert secured({"host": "db"}, weak) == DEFAULTS


def test_the_certificates_that_are_trusted() -> None:
    def rootcert(environ: dict[str, str], *files: str, libpq: int = NEW_LIBPQ) -> str | None:
        found = security.secured({"host": "db"}, environ, libpq=libpq, is_file=lambda path: path in files)
        return found.get("sslrootcert")

    own = os.path.expanduser("~/.postgresql/root.crt")
    assert rootcert({}, BUNDLE) == BUNDLE
    assert rootcert({}) == "system"
    assert rootcert({}, BUNDLE, own) is None
    assert rootcert({"PGSSLROOTCERT": "/x"}, BUNDLE) is None
    assert rootcert({"SSL_CERT_FILE": "/x"}, BUNDLE, "/x") == "/x"


def test_an_old_libpq_is_refused_unless_the_url_asks_for_a_mode() -> None:
    with pytest.raises(ConfigError, match=r"libpq \(version 15\)") as refused:
        secured({"host": "db"}, libpq=OLD_LIBPQ)
    assert "pip install" in refused.value.hint
    assert secured({"host": "localhost"}, libpq=OLD_LIBPQ) == {}
    assert "require_auth" not in secured({"host": "db", "sslmode": "verify-full"}, libpq=OLD_LIBPQ)


@pytest.mark.parametrize(
    ("asked", "environ"),
    [
        ({"sslkey": "engine:id"}, {}),
        ({"sslkey": "/path/engine:1"}, {}),
        ({}, {"PGSSLKEY": "engine:id"}),
        ({"service": "x"}, {}),
        ({}, {"PGSERVICE": "x"}),
        ({"sslkeylogfile": "/tmp/keys"}, {}),
    ],
)
def test_an_option_that_loads_code_or_unchecked_options_is_refused(
    asked: dict[str, str], environ: dict[str, str]
) -> None:
    with pytest.raises(ConfigError):
        security.require_safe(asked, environ)


def test_a_key_of_ones_own_is_no_engine() -> None:
    security.require_safe({"sslkey": "/etc/egec/client.key", "passfile": "/etc/egec/pgpass"}, {})


@pytest.mark.parametrize("option", ["sslkey=/tmp/engine:1", "sslkey=a%3Ab", "service=x", "sslkeylogfile=/tmp/x"])
def test_a_url_with_such_an_option_ends_a_command_with_78(egec_process: Egec, option: str) -> None:
    ended = egec_process(
        "client", "list", env={"EGEC_DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/d?{option}"}
    )
    assert ended.code == 78
    assert option.partition("=")[0] in ended.err
    assert PASSWORD not in ended.err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, []),
        ({"sslmode": "verify-full", "require_auth": "scram-sha-256"}, []),
        ({"sslmode": "require"}, ["sslmode=require"]),
        ({"sslmode": "verify-ca"}, ["sslmode=verify-ca"]),
        ({"require_auth": "md5"}, ["require_auth=md5"]),
        ({"require_auth": "scram-sha-256,password"}, ["require_auth=password"]),
        ({"require_auth": "!password"}, ["require_auth=!password"]),
        ({"require_auth": "!password,!md5"}, []),
        ({"sslmode": "disable", "require_auth": "password"}, ["sslmode=disable", "require_auth=password"]),
    ],
)
def test_what_a_url_gives_up_is_a_weakness(asked: dict[str, str], told: list[str]) -> None:
    found = list(security.weaknesses({"host": "db", **asked}, {}))
    assert len(found) == len(told)
    for weakness, words in zip(found, told, strict=True):
        assert words in weakness.what
        assert weakness.fix
    assert list(security.weaknesses({"host": "localhost", **asked}, {})) == []


# False servers, in a network of the test's own.

FALSE_SERVER = """
import os, socket, ssl, struct, subprocess, sys, threading
address, certificate = sys.argv[1:3]
command = sys.argv[3:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "address", "add", address + "/32", "dev", "lo"], check=True)
listener = socket.create_server((address, 5432))
stolen = []

def received(connection, size):
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data

def serve():
    while True:
        connection, _ = listener.accept()
        try:
            while True:
                (size,) = struct.unpack("!I", received(connection, 4))
                packet = received(connection, size - 4)
                (code,) = struct.unpack("!I", packet[:4])
                if code == 80877103:  # SSLRequest
                    connection.sendall(b"S" if certificate else b"N")
                    if certificate:
                        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                        context.load_cert_chain(certificate)
                        connection = context.wrap_socket(connection, server_side=True)
                elif code == 80877104:  # GSSENCRequest
                    connection.sendall(b"N")
                else:
                    break
            connection.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
            kind = received(connection, 1)
            (size,) = struct.unpack("!I", received(connection, 4))
            stolen.append(received(connection, size - 4).rstrip(b"\\0").decode(errors="replace"))
        except (OSError, EOFError):
            pass
        finally:
            connection.close()

threading.Thread(target=serve, daemon=True).start()
done = subprocess.run(command, capture_output=True, text=True, timeout=50)
print(done.returncode, stolen, flush=True)
print(done.stderr, flush=True)
os._exit(0)
"""


@pytest.fixture
def ask_false_server(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Return what runs a command beside a server that asks for a clear password; how it ended, and what it said."""
    if os.geteuid() != 0:
        pytest.skip("a network of the test's own needs the rights of root: run the tests as root")
    for program in ("unshare", "ip"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: apt-get install util-linux iproute2")
    issued = trustme.CA().issue_cert(ADDRESS)
    pem = tmp_path / "false-server.pem"
    pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())

    def ask(options: str, *, tls: bool) -> tuple[str, str]:
        url = f"postgresql://egec:{PASSWORD}@{ADDRESS}/egec?connect_timeout=5{options}"
        done = subprocess.run(
            ["unshare", "--net", sys.executable, "-c", FALSE_SERVER, ADDRESS, str(pem) if tls else "", sys.executable,
             "-m", "egec_cli", "client", "list", "--format", "json"],
            env={**os.environ, "EGEC_DATABASE_URL": url, "PGSSLMODE": "disable"},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout, done
        ended, _, said = done.stdout.partition("\n")
        return ended, said

    return ask


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("options", ["", "&sslmode=require", "&sslmode=prefer", "&sslmode=disable"])
def test_a_false_server_gets_no_clear_password(
    ask_false_server: Callable[..., tuple[str, str]], options: str, tls: bool
) -> None:
    ended, said = ask_false_server(options, tls=tls)
    assert ended in {"78 []", "75 []"}, (ended, said)
    assert PASSWORD not in said
    if not options:
        assert ended == "78 []"
        assert "is not trusted" in said


def test_the_false_server_is_one(ask_false_server: Callable[..., tuple[str, str]]) -> None:
    ended, _ = ask_false_server("&sslmode=disable&require_auth=password", tls=False)
    assert ended.endswith(f"['{PASSWORD}']")


# The real server behind a certificate that can be verified.

PROXY = """
import os, socket, ssl, subprocess, sys, threading
address, certificate, behind = sys.argv[1:4]
command = sys.argv[4:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "address", "add", address + "/32", "dev", "lo"], check=True)
listener = socket.create_server((address, 5432))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)

def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve():
    while True:
        connection, _ = listener.accept()
        connection.recv(8)  # SSLRequest
        connection.sendall(b"S")
        try:
            connection = context.wrap_socket(connection, server_side=True)
        except OSError:
            continue
        server = socket.socket(socket.AF_UNIX)
        server.connect(behind)
        for pair in ((connection, server), (server, connection)):
            threading.Thread(target=copy, args=pair, daemon=True).start()

threading.Thread(target=serve, daemon=True).start()
done = subprocess.run(command, capture_output=True, text=True, timeout=50)
print(done.returncode, done.stdout, done.stderr, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "trusted", "code"), [(ADDRESS, True, 0), ("192.0.2.2", True, 78), (ADDRESS, False, 78)]
)
def test_a_real_server_is_used_where_its_certificate_can_be_verified(
    postgresql: Callable[[], str], tmp_path: Path, name: str, trusted: bool, code: int
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a network of the test's own needs the rights of root: run the tests as root")
    for program in ("unshare", "ip"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: apt-get install util-linux iproute2")
    url = postgresql()
    database = url.partition("/egec_")[2].partition("?")[0]
    folder = Path(url.partition("host=")[2])
    role = f"scram_{database}_{name[-1]}_{trusted}".lower()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET password_encryption = 'scram-sha-256'")
        admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
        rules = folder / "pg_hba.conf"
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        admin.execute("SELECT pg_reload_conf()")
    authority = trustme.CA()
    (tmp_path / "server.pem").write_bytes(authority.issue_cert(name).private_key_and_cert_chain_pem.bytes())
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    asked = f"postgresql://{role}:{PASSWORD}@{ADDRESS}/egec_{database}?sslrootcert={tmp_path}/ca.pem"
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", PROXY, ADDRESS, str(tmp_path / "server.pem"),
         str(folder / ".s.PGSQL.5432"), sys.executable, "-m", "egec_cli", "client", "create", "jeanne@example.org"],
        env={**os.environ, "EGEC_DATABASE_URL": asked}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith(f"{code} "), done
    assert "is not trusted" in done.stdout or code == 0


def test_doctor_warns_of_a_url_that_gives_up_security(egec: Egec, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens there; what the URL says is known without a connection.
    url = f"postgresql://u:{PASSWORD}@[::ffff:127.0.0.1]:1/d?sslmode=require"
    monkeypatch.setenv("EGEC_DATABASE_URL", url)
    ended = egec("doctor", "--format", "csv")
    assert "database_connection,warning" in ended.out
    assert PASSWORD not in ended.out
