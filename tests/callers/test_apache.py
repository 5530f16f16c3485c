"""A real Apache asks egec: `egec verify --stdin` by mod_authnz_external, and a file of identifiers and hashes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.callers.service_account import as_service_account, folder_of_service_account, free_port, give, running
from tests.callers.site import Site, answer
from tests.programs import require_program

MODULES = Path("/usr/lib/apache2/modules")
CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
DocumentRoot {folder}/www
{modules}
AuthnCacheSOCache shmcb
DefineExternalAuth egec pipe {script}
<Directory {folder}/www>
    AuthType Basic
    AuthName eGEC
    AuthBasicProvider external
    AuthExternal egec
    Require valid-user
</Directory>
<Directory {folder}/www/cached>
    AuthBasicProvider socache external
    AuthnCacheProvideFor external
    AuthExternal egec
    AuthExternalProvideCache On
</Directory>
<Directory {folder}/www/htpasswd>
    AuthBasicProvider file
    AuthUserFile {folder}/users
</Directory>
"""
LOADED = (
    "mpm_prefork", "unixd", "authn_core", "authz_core", "authz_user", "auth_basic", "authn_file", "authn_socache",
    "socache_shmcb", "authnz_external",
)  # fmt: skip


class Apache(NamedTuple):
    """A web server with pages for clients only."""

    site: Site
    port: int
    login: tuple[str, str]
    blocked: tuple[str, str]

    def answer(self, page: str, user: str, password: str, encoding: str = "utf-8") -> int:
        """Request a page with this login; return the HTTP status."""
        return answer(f"http://127.0.0.1:{self.port}/{page}", user, password, encoding)


@pytest.fixture
def apache() -> Iterator[Apache]:
    """Start a web server for this test alone."""
    binary = require_program("apache2", "apache2")
    if not (MODULES / "mod_authnz_external.so").exists():
        pytest.skip("mod_authnz_external is missing: apt-get install libapache2-mod-authnz-external")
    with folder_of_service_account() as folder:
        site = Site.made_in(folder)
        login, blocked = site.account(), site.account("marc@example.org")
        site.block(blocked[0])
        for page in ("www", "www/cached", "www/htpasswd"):
            (folder / page).mkdir()
            (folder / page / "page").write_text("welcome")
        (folder / "users").write_text("".join(f"{one}:{site.stored_hash(one)}\n" for one, _ in (login, blocked)))
        port = free_port()
        # Some of them are a part of the program itself, as the distribution likes.
        modules = "\n".join(
            f"LoadModule {name}_module {MODULES}/mod_{name}.so"
            for name in LOADED
            if (MODULES / f"mod_{name}.so").exists()
        )
        script = site.script("verify-stdin", "verify", "--stdin")
        (folder / "apache.conf").write_text(
            CONFIGURATION.format(folder=folder, port=port, modules=modules, script=script)
        )
        give(folder)
        command = as_service_account([binary, "-DFOREGROUND", "-f", str(folder / "apache.conf")])
        with running(command, port, folder / "error.log"):
            yield Apache(site, port, login, blocked)


def test_apache_lets_in_by_egec_who_has_the_right_password(apache: Apache) -> None:
    identifier, password = apache.login
    assert apache.answer("page", identifier, password) == 200
    assert apache.answer("page", identifier, "wrong") == 401
    assert apache.answer("page", "1111111111", password) == 401
    assert apache.answer("page", *apache.blocked) == 401
    assert apache.site.logins() == ["accepted", "refused", "refused", "refused"]


def test_apache_gets_invalid_input_refused(apache: Apache) -> None:
    identifier, password = apache.login
    for wrong in ("", "é" * 9, "x" * 5000, f"\n{password}"):
        assert apache.answer("page", identifier, wrong) == 401
    assert apache.answer("page", "", password) == 401
    assert apache.answer("page", "Jérôme", "été", encoding="latin-1") == 401
    assert apache.answer("page", identifier, password) == 200


def test_apache_refuses_every_login_when_the_database_is_unavailable(apache: Apache) -> None:
    (apache.site.folder / "egec.db").rename(apache.site.folder / "elsewhere.db")
    assert apache.answer("page", *apache.login) == 401


def test_apache_may_remember_a_login_for_a_while_and_answers_by_itself_meanwhile(apache: Apache) -> None:
    assert [apache.answer("cached/page", *apache.login) for _ in range(4)] == [200] * 4
    assert apache.answer("cached/page", apache.login[0], "wrong") == 401
    assert apache.site.logins() == ["accepted"]


def test_apache_lets_in_by_a_file_of_identifiers_and_hashes(apache: Apache) -> None:
    identifier, password = apache.login
    assert apache.answer("htpasswd/page", identifier, password) == 200
    assert apache.answer("htpasswd/page", identifier, "wrong") == 401
    assert apache.answer("htpasswd/page", "1111111111", password) == 401
    assert apache.site.logins() == []
