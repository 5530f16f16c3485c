"""The database fails, at any moment of an activation or a login: how the program ends; nothing is half done."""

import json
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from egec_cli.clients import fields, records
from egec_cli.context import open_context
from egec_cli.credentials.states import SUPERSEDED_HASHES_KEPT
from egec_cli.settings import load
from egec_cli.settings.types import Database, SqliteFile
from egec_cli.store import database
from egec_cli.store.models import TABLES, Client, Credential
from tests.activations import activated, letters, once, opens, require_as_good_as_new, wait_until
from tests.conftest import Egec
from tests.processes import IMPATIENT, disk_with_room_to, hide_module, run_as_any_user, run_with
from tests.smtp_server import Fault, MailServer, Point

# What a page takes in SQLite's log (https://www.sqlite.org/fileformat2.html#walformat).
FRAME = 24 + 4096


@pytest.fixture
def url(postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a database of PostgreSQL; EGEC_DATABASE_URL names it too."""
    made = postgresql()
    monkeypatch.setenv("EGEC_DATABASE_URL", made)
    return made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty embedded database in a folder of its own; EGEC_DATABASE_URL names it too."""
    path = tmp_path / "database" / "egec.db"
    database.create_database(SqliteFile(path))
    monkeypatch.setenv("EGEC_DATABASE_URL", f"sqlite:///{path}")
    return path


def login_of(server: MailServer) -> str:
    """Return what a client types who has got the last mail, for `egec verify --stdin`."""
    last = letters(server)[-1]
    return f"{last.identifier}\n{last.password}\n"


def rows() -> dict[str, list[Any]]:
    """Return all that the database holds."""
    with open_context(load.load_settings()):
        return {table.__name__: list(table.select().order_by(table.id).dicts()) for table in TABLES}


def require_whole() -> None:
    """Require that what was recorded is recorded in full, and agrees."""
    with open_context(load.load_settings()):
        for client in Client.select():
            credentials = list(Credential.select().where(Credential.client == client).order_by(Credential.sequence))
            assert [row.sequence for row in credentials] == list(range(1, client.last_sequence + 1))
            assert [row.sequence for row in credentials if row.state == "accepted"] == [client.active_sequence]
            hashed = [row.state for row in credentials if row.password_hash is not None]
            assert set(hashed) <= {"accepted", "in_doubt", "sending", "superseded"}
            assert hashed.count("superseded") <= SUPERSEDED_HASHES_KEPT


@contextmanager
def locked(location: Database) -> Iterator[None]:
    """Hold, as another session, what every change of a client must wait for."""
    if isinstance(location, SqliteFile):
        with closing(sqlite3.connect(location.path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(location.url) as connection:
            connection.execute("SELECT 1 FROM client FOR UPDATE")
            yield


# A lock that another session holds.


def test_a_lock_of_another_session_ends_an_activation_with_75_and_nothing_is_done(
    location: Database, server: MailServer, egec: Egec, egec_process: Egec
) -> None:
    identifier = activated(egec)
    before = rows()
    with locked(location):
        ended = run_with([IMPATIENT], "activate", identifier, "--format", "json")
    assert (ended.code, ended.out) == (75, "")
    assert json.loads(ended.err)["error"]["code"] == "database_busy"
    assert rows() == before
    assert len(server.accepted) == 1
    require_as_good_as_new(identifier, server, egec_process)


def test_a_lock_of_another_session_ends_a_login_with_75_rather_than_refuse_it(
    location: Database, server: MailServer, egec: Egec, egec_process: Egec
) -> None:
    activated(egec)
    before = rows()
    with locked(location):
        ended = run_with([IMPATIENT], "verify", "--stdin", stdin=login_of(server))
    assert (ended.code, ended.out) == (75, "")
    assert rows() == before
    assert egec_process("verify", "--stdin", stdin=login_of(server)).code == 0


def test_a_lock_that_comes_while_the_mail_is_with_the_server_leaves_both_passwords_until_it_is_gone(
    location: Database, server: MailServer, egec: Egec, egec_process: Egec
) -> None:
    identifier = activated(egec)
    lock = locked(location)
    server.at(Point.KEPT, once(lock.__enter__))
    ended = run_with([IMPATIENT], "activate", identifier, "--format", "json")
    lock.__exit__(None, None, None)
    assert (ended.code, ended.out) == (75, "")
    require_whole()
    previous, last = letters(server)
    assert opens(previous)
    assert opens(last)
    assert not opens(previous)
    require_as_good_as_new(identifier, server, egec_process)


# PostgreSQL.


def terminate(url: str) -> None:
    """End every session of egec in the database, and wait until they have ended."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'egec'"
        )


@pytest.mark.parametrize("point", [Point.BANNER, Point.RCPT, Point.KEPT])
def test_a_session_that_postgresql_ends_in_the_middle_is_a_temporary_failure_and_the_last_mail_opens_the_account(
    url: str, server: MailServer, egec: Egec, egec_process: Egec, point: Point
) -> None:
    identifier = activated(egec)
    server.at(point, once(lambda: terminate(url)))
    ended = egec_process("activate", identifier, "--format", "json")
    assert (ended.code, ended.out) == (75, "")
    assert json.loads(ended.err)["error"]["code"] == "database_busy"
    require_whole()
    assert len(server.accepted) == (1 if point is Point.BANNER else 2)
    assert opens(letters(server)[-1])
    require_as_good_as_new(identifier, server, egec_process)


def test_a_session_that_postgresql_ends_while_the_mail_is_refused_leaves_the_previous_password(
    url: str, server: MailServer, egec: Egec, egec_process: Egec
) -> None:
    identifier = activated(egec)
    server.at(Point.RCPT, once(lambda: terminate(url)))
    server.fail_next(Fault.RCPT_550)
    assert egec_process("activate", identifier).code == 75
    require_whole()
    (previous,) = letters(server)
    assert opens(previous)
    require_as_good_as_new(identifier, server, egec_process)


def test_a_server_that_cannot_be_reached_is_a_temporary_failure(
    server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        for place in (
            f"127.0.0.1:{closed.getsockname()[1]}/egec",
            f"127.0.0.1:{silent.getsockname()[1]}/egec",
            f"/egec?host={tmp_path}",
        ):
            monkeypatch.setenv("EGEC_DATABASE_URL", f"postgresql://egec:secret@{place}")
            for command, stdin in ((("activate", "1234567890"), ""), (("verify", "--stdin"), "1234567890\nsecret\n")):
                ended = run_with([IMPATIENT], *command, stdin=stdin)
                assert (ended.code, ended.out) == (75, ""), place
                assert "Try again" in ended.err
                assert "secret" not in ended.err
    assert server.connections == 0


def with_role(url: str, attributes: str) -> str:
    """Make a role of this database's own, and return the URL by which it logs in."""
    role = f"role_of_{urlsplit(url).path[1:]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} {attributes}")
    return url.replace("postgres@", f"{role}@")


def test_a_login_that_postgresql_refuses_is_told_as_a_fault_of_the_configuration(
    url: str, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for refused, hint in (
        (url.replace("postgres@", "no_such_role@"), "createuser"),
        (url.replace("@/egec_", "@/no_such_database_"), "createdb"),
        (with_role(url, "NOLOGIN"), "ALTER ROLE ... LOGIN"),
        (f"{url}&sslmode=none", "Correct EGEC_DATABASE_URL"),
    ):
        monkeypatch.setenv("EGEC_DATABASE_URL", refused)
        ended = egec("client", "list")
        assert (ended.code, ended.out) == (78, ""), ended
        assert hint in ended.err


def test_a_server_that_refuses_the_connection_is_told_with_what_to_check(
    egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", "postgresql://u:s3cr3t@127.0.0.1:1/egec")
    ended = egec("client", "list", "--format", "json")
    error = json.loads(ended.err)["error"]
    assert (ended.code, error["code"]) == (75, "database_busy")
    assert "port 1" in error["message"]
    assert error["hint"].startswith("Try again once PostgreSQL runs and can be reached at the host and port of")


def test_a_missing_driver_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver cannot be imported, as if it were not installed."""
    monkeypatch.setenv("EGEC_DATABASE_URL", "postgresql://h/d")
    ended = run_with([hide_module("psycopg")], "client", "list", "--format", "json")
    assert ended.code == 78
    hint = json.loads(ended.err)["error"]["hint"]
    assert f"{sys.executable} -m pip install 'psycopg[binary]" in hint


def test_a_time_out_that_is_no_number_is_a_fault_of_the_configuration(
    egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, code in (("abc", 78), ("", 78), ("1e999", 78), ("2", 75)):
        monkeypatch.setenv("EGEC_DATABASE_URL", f"postgresql://127.0.0.1:1/d?connect_timeout={value}")
        ended = egec("client", "list")
        assert ended.code == code, (value, ended)
        assert "connect_timeout" in ended.err or code == 75


def test_a_wrong_password_is_told_as_a_fault_of_the_configuration_and_not_quoted(
    url: str, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = with_role(url, "LOGIN SUPERUSER PASSWORD 'right'")
    role = urlsplit(guarded).username
    with psycopg.connect(url, autocommit=True) as admin:
        rules = Path(admin.execute("SHOW hba_file").fetchall()[0][0])
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        admin.execute("SELECT pg_reload_conf()")
    right, wrong = (guarded.replace("@", f":{password}@") for password in ("right", "quite-wrong"))
    monkeypatch.setenv("EGEC_DATABASE_URL", wrong)
    wait_until(lambda: egec("client", "list").code != 0)  # until the server has read its new rules
    for refused in (wrong, guarded):
        monkeypatch.setenv("EGEC_DATABASE_URL", refused)
        ended = egec("client", "list")
        assert (ended.code, ended.out) == (78, ""), ended
        assert "quite-wrong" not in ended.err
    monkeypatch.setenv("EGEC_DATABASE_URL", right)
    assert egec("client", "list").code == 0


def test_an_option_that_postgresql_does_not_know_is_told_without_the_url(
    url: str, egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (url.replace("@", ":s3cret@") + "&no_such_option=1", "postgresql://egec:s3cret@[::1/egec"):
        monkeypatch.setenv("EGEC_DATABASE_URL", wrong)
        ended = egec("client", "list")
        assert (ended.code, ended.out) == (78, ""), ended
        assert "EGEC_DATABASE_URL" in ended.err
        assert "s3cret" not in ended.err


@contextmanager
def server_that_says(words: str) -> Iterator[str]:
    """Start what refuses every login in PostgreSQL's protocol with these words; return the URL that leads there."""

    def refuse() -> None:
        with closing(listening.accept()[0]) as connection:
            connection.recv(1024)
            fields = b"".join(
                kind + text.encode() + b"\0" for kind, text in ((b"S", "FATAL"), (b"C", "00000"), (b"M", words))
            )
            connection.sendall(b"E" + (len(fields) + 5).to_bytes(4, "big") + fields + b"\0")

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = Thread(target=refuse)
        thread.start()
        yield f"postgresql://egec@127.0.0.1:{listening.getsockname()[1]}/egec?sslmode=disable&gssencmode=disable"
        thread.join()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("no pg_hba.conf entry for host", 78),
        ('permission denied for database "egec"', 77),
        ("the database system is starting up", 75),
        ("sorry, too many clients already", 75),
        ("authentification par mot de passe échouée pour l'utilisateur « egec »", 78),
        ("le rôle « egec » n'existe pas", 78),
        ("le rôle « egec » n'est pas autorisé à se connecter", 78),
        ("droit refusé pour la base de données « egec »", 77),
        ("le système de bases de données se lance", 75),
        ("désolé, trop de clients sont déjà connectés", 75),
    ],
)
def test_what_a_server_says_at_the_login_is_understood_in_english_and_in_french(
    egec: Egec, monkeypatch: pytest.MonkeyPatch, words: str, code: int
) -> None:
    with server_that_says(words) as place:
        monkeypatch.setenv("EGEC_DATABASE_URL", place)
        ended = egec("client", "list")
    assert (ended.code, ended.out) == (code, ""), ended
    assert words in ended.err.replace("\n", " ")


def test_a_database_that_may_only_be_read_is_not_permitted_and_nothing_is_done(
    url: str, server: MailServer, egec: Egec, egec_process: Egec
) -> None:
    identifier = activated(egec)
    before = rows()
    name = urlsplit(url).path[1:]
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        require_not_permitted(egec_process, identifier, server)
        assert rows() == before
        admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    require_as_good_as_new(identifier, server, egec_process)


def test_a_role_that_may_only_read_is_not_permitted_and_nothing_is_done(
    url: str, server: MailServer, egec: Egec, egec_process: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = activated(egec)
    before = rows()
    reader = with_role(url, "LOGIN")
    role = urlsplit(reader).username
    monkeypatch.setenv("EGEC_DATABASE_URL", reader)
    with psycopg.connect(url, autocommit=True) as admin:
        require_not_permitted(egec_process, identifier, server)
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        require_not_permitted(egec_process, identifier, server)
        assert rows() == before
        admin.execute(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        admin.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    require_as_good_as_new(identifier, server, egec_process)


def require_not_permitted(run: Egec, identifier: str, server: MailServer) -> None:
    """Require that neither an activation nor a login is permitted, and that no mail leaves."""
    before = len(server.accepted)
    for arguments, stdin in ((("activate", identifier), ""), (("verify", "--stdin"), login_of(server))):
        ended = run(*arguments, "--format", "json", stdin=stdin)
        assert (ended.code, ended.out) == (77, ""), ended
        assert json.loads(ended.err)["error"]["code"] == "not_permitted"
    assert len(server.accepted) == before


# SQLite.


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"), [(0o400, 0o700), (0o600, 0o500), (0o000, 0o700), (0o600, 0o000), (0o400, 0o500)]
)
def test_a_file_or_a_folder_without_rights_is_not_permitted_and_nothing_is_done(
    file: Path, server: MailServer, egec: Egec, file_mode: int, folder_mode: int
) -> None:
    identifier = activated(egec)
    before = file.read_bytes()
    file.chmod(file_mode)
    file.parent.chmod(folder_mode)
    try:
        require_not_permitted(run_as_any_user, identifier, server)
    finally:
        file.parent.chmod(0o700)
        file.chmod(0o600)
    assert file.read_bytes() == before
    require_as_good_as_new(identifier, server, run_as_any_user)


def test_a_disk_that_is_full_at_any_write_locks_nobody_out(
    file: Path, server: MailServer, egec: Egec, egec_process: Egec
) -> None:
    identifier = activated(egec)
    log = file.with_name(f"{file.name}-wal")
    codes: list[int] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        # While another has it open, the log only grows; it must be larger than the shared memory beside it.
        other.execute("PRAGMA wal_autocheckpoint = 0")
        for number in [*range(1, 16), 0]:
            other.execute(f"PRAGMA user_version = {number}")
        assert log.stat().st_size > 50_000
        while 0 not in codes:
            frames = len(codes)
            ended = run_with([disk_with_room_to(log.stat().st_size + frames * FRAME)], "activate", identifier)
            codes.append(ended.code)
            require_whole()
            assert opens(letters(server)[-1])
        refused = run_with([disk_with_room_to(log.stat().st_size)], "verify", "--stdin", stdin=login_of(server))
        assert (refused.code, refused.out) == (74, "")
    assert codes == [*[74] * frames, 0]
    assert len(server.accepted) > 3
    require_as_good_as_new(identifier, server, egec_process)


def without_header(content: bytes) -> bytes:
    return bytes(100) + content[100:]


def cut_in_two(content: bytes) -> bytes:
    return content[: len(content) // 2 + 100]


def without_all_but_the_first_page(content: bytes) -> bytes:
    return content[:4096] + b"\xff" * (len(content) - 4096)


@pytest.mark.parametrize("damage", [without_header, cut_in_two, without_all_but_the_first_page])
def test_a_damaged_file_is_told_as_such_and_left_as_it_is(
    file: Path, server: MailServer, egec: Egec, egec_process: Egec, damage: Callable[[bytes], bytes]
) -> None:
    identifier = activated(egec)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    for arguments, stdin in ((("activate", identifier), ""), (("verify", "--stdin"), login_of(server))):
        ended = egec_process(*arguments, stdin=stdin)
        assert (ended.code, ended.out) == (78, ""), ended
        assert "not an intact SQLite database" in ended.err
    assert file.read_bytes() == damage(whole)
    assert len(server.accepted) == 1
    file.write_bytes(whole)
    require_as_good_as_new(identifier, server, egec_process)


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_damage_that_is_met_in_the_middle_of_a_list_is_told_as_such(file: Path, egec_process: Egec, form: str) -> None:
    with open_context(load.load_settings()) as found:
        for number in range(1000):
            records.create_client(found, fields.parse_fields(f"c{number}@example.org"))
    content = file.read_bytes()
    middle = len(content) // 2 // 4096 * 4096
    file.write_bytes(content[:middle] + bytes(8 * 4096) + content[middle + 8 * 4096 :])
    ended = egec_process("client", "list", "--format", form)
    assert (ended.code, "not an intact SQLite database" in ended.err) == (78, True)


@pytest.mark.parametrize(
    "command", [("client", "list"), ("db", "status"), ("db", "upgrade"), ("init",), ("verify", "--stdin")]
)
def test_damage_that_sqlite_reports_in_bytes_that_are_not_utf_8_is_reported_as_damage(
    file: Path, egec_process: Egec, command: tuple[str, ...]
) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_master SET sql = CAST(x'637265617465207461FF20FE' AS TEXT)")
    ended = egec_process(*command, stdin="1234567890\npassword\n")
    assert (ended.code, ended.out) == (78, ""), ended
    assert "not an intact SQLite database" in ended.err


def test_a_host_name_that_no_server_can_have_is_a_fault_of_the_settings(
    egec: Egec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", f"postgresql://u:secret@{'a' * 64}.example.org/d?sslmode=disable")
    ended = egec("client", "list")
    assert (ended.code, ended.out) == (78, "")
    assert "invalid host name" in ended.err
    assert "secret" not in ended.err
