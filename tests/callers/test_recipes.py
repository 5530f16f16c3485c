"""The README's recipes for Apache, PAM, nginx and Dovecot, followed exactly with the real programs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli.main import entry
from egec_cli.settings.types import Tls
from tests.callers.service_account import PATIENCE, free_port, running
from tests.callers.site import answer
from tests.conftest import Ended
from tests.manual.blocks import Block, executed_by
from tests.manual.machine import machine
from tests.manual.server import INSTALL, STATE, Server
from tests.programs import require_program, require_programs_in
from tests.smtp_server import MailServer

(
    SUDOERS, APACHE_SCRIPT, APACHE, APACHE_CACHE,
    PAM_SCRIPT, PAM, NGINX,
    DOVECOT_SCRIPT, DOVECOT,
) = executed_by("tests/callers/test_recipes.py")  # fmt: skip
PAGE = "/srv/www/clients/page"
APACHE_MODULES = Path("/usr/lib/apache2/modules")
LOADED = (
    "mpm_prefork", "unixd", "authn_core", "authz_core", "authz_user", "auth_basic", "authn_file", "authn_socache",
    "socache_shmcb", "authnz_external",
)  # fmt: skip
AROUND_APACHE = """
ServerRoot /srv
ServerName localhost
Listen 127.0.0.1:{port}
User www-data
Group www-data
PidFile /srv/apache.pid
DefaultRuntimeDir /srv
ErrorLog /srv/error.log
DocumentRoot /srv/www
AuthnCacheSOCache shmcb
{modules}
{shown}
"""
AROUND_NGINX = """
load_module modules/ngx_http_auth_pam_module.so;
user www-data;
daemon off;
pid /srv/nginx.pid;
error_log /srv/error.log;
events {{}}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        root /srv/www;
        {shown}
    }}
}}
"""
AROUND_DOVECOT = """
base_dir = /srv/run
state_dir = /srv/state
log_path = /srv/dovecot.log
protocols =
ssl = no
auth_failure_delay = 0
{shown}
userdb {{
  driver = static
  args = uid=5000 gid=5000 home=/srv
}}
"""


class Host(NamedTuple):
    """A machine on which egec is installed as the README says, and a client's login."""

    server: Server
    login: tuple[str, str]

    def has(self, *blocks: Block) -> None:
        """Write the files that these blocks of the README show."""
        for block in blocks:
            self.server.machine.write(block.path, block.text, mode=block.permissions)

    def verdicts(self) -> list[str]:
        """Return the outcomes of all logins, oldest first."""
        listed = self.server.egec("audit", "list", "--action", "login", "--format", "ids", "--fields", "outcome")
        return listed.out.split()


@pytest.fixture
def host() -> Iterator[Host]:
    require_programs_in(INSTALL.text, beside=["sudo"])
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as mail_server, machine() as made:
        server = Server.installed(made, mail_server)
        made.write(PAGE, "welcome")
        identifier = server.egec("client", "create", "jeanne@example.org", "--format", "ids").out.strip()
        shown = server.egec("activate", identifier, "--no-mail", "--show-password", "--format", "json")
        assert shown.code == 0, shown
        yield Host(server, (identifier, json.loads(shown.out)["password"]))


def page(port: int) -> str:
    """Return the clients-only page of a web server."""
    return f"http://127.0.0.1:{port}/clients/page"


@contextmanager
def apache(host: Host, shown: str) -> Iterator[int]:
    """Run a web server with these lines of the README; yield its port."""
    binary = require_program("apache2", "apache2")
    if not (APACHE_MODULES / "mod_authnz_external.so").exists():
        pytest.skip("mod_authnz_external is missing: apt-get install libapache2-mod-authnz-external")
    host.has(APACHE_SCRIPT, SUDOERS)
    port = free_port()
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so"
        for name in LOADED
        if (APACHE_MODULES / f"mod_{name}.so").exists()
    )
    host.server.machine.write("/srv/apache.conf", AROUND_APACHE.format(port=port, modules=modules, shown=shown))
    command = host.server.machine.entered([binary, "-DFOREGROUND", "-f", "/srv/apache.conf"])
    with running(command, port, Path(os.devnull)):
        yield port


def test_the_rule_of_sudo_is_one(host: Host) -> None:
    host.has(SUDOERS)
    host.server.machine.must([require_program("visudo", "sudo"), "-cf", SUDOERS.path])


# What the server's account may try, to run code as egec or to choose other settings.
HOSTILE = "/srv/hostile"
MARKS = "/srv/marks"
LEAVES_A_MARK = f"import os\nopen(f'{MARKS}/{{os.getuid()}}', 'w').close()\n"
ATTACKS = {
    "PYTHONPATH": HOSTILE,
    "PYTHONSTARTUP": f"{HOSTILE}/sitecustomize.py",
    "PYTHONHOME": HOSTILE,
    "PYTHONUSERBASE": HOSTILE,
    "PYTHONINSPECT": "1",
    "LD_PRELOAD": f"{HOSTILE}/x.so",
    "LD_LIBRARY_PATH": HOSTILE,
    "OPENSSL_CONF": f"{HOSTILE}/openssl.cnf",
    "PGSERVICEFILE": f"{HOSTILE}/service",
    "BASH_ENV": f"{HOSTILE}/run",
    "ENV": f"{HOSTILE}/run",
    "EGEC_ENV_FILE": f"{HOSTILE}/.env",
    "EGEC_DATABASE_URL": f"sqlite:///{HOSTILE}/x.db",
    "EGEC_MAIL_URL": f"sendmail:{HOSTILE}/run",
    "EGEC_TEMPLATES": HOSTILE,
    "EGEC_ACTOR": "root",
    "XDG_CONFIG_HOME": HOSTILE,
    "HOME": HOSTILE,
}


@pytest.fixture
def besieged(host: Host) -> Host:
    """Return a machine with the rule of sudo, the program as pip installs it, and a folder full of traps."""
    host.has(SUDOERS)
    program = f"#!{sys.executable}\nimport sys\nfrom {entry.__module__} import entry\nsys.exit(entry())\n"
    host.server.machine.write("/opt/egec/bin/egec", program, mode=0o755)
    for name in ("sitecustomize.py", "usercustomize.py", "egec_cli/__init__.py"):
        host.server.machine.write(f"{HOSTILE}/{name}", LEAVES_A_MARK)
    host.server.machine.write(f"{HOSTILE}/.env", f"EGEC_DATABASE_URL=sqlite:///{HOSTILE}/x.db\n")
    host.server.machine.must(["sh", "-c", f"chown -R www-data {HOSTILE}; install -d -m 1777 {MARKS}"])
    return host


def as_server(host: Host, command: str, *, typed: str = "", **variables: str) -> Ended:
    """Run a line of the shell as the server's account, in its folder full of traps."""
    machine = host.server.machine
    return machine.run(["sh", "-c", command], user="www-data", typed=typed, variables=variables, folder=HOSTILE)


def marks(host: Host) -> str:
    return host.server.machine.must(["ls", MARKS])


def test_the_servers_account_changes_nothing_by_its_environment_or_its_folder(besieged: Host) -> None:
    identifier, password = besieged.login
    exported = "; ".join(f"export {name}='{value}'" for name, value in ATTACKS.items())
    for call, typed, variables in (
        ("verify --stdin", f"{identifier}\n{password}\n", {}),
        ("verify --pam", password, {"PAM_USER": identifier}),
    ):
        ended = as_server(
            besieged, f"{exported}; exec sudo -n -u egec /opt/egec/bin/egec {call}", typed=typed, **variables
        )
        assert (ended.code, marks(besieged)) == (0, ""), ended
    assert besieged.verdicts() == ["accepted", "accepted"]


def test_sudo_passes_on_what_pam_says_and_nothing_of_the_servers(besieged: Host) -> None:
    besieged.server.machine.write("/opt/egec/bin/egec", "#!/bin/sh\npwd; exec env\n", mode=0o755)
    exported = "; ".join(f"export {name}='{value}'" for name, value in ATTACKS.items())
    ended = as_server(
        besieged,
        f"{exported}; exec sudo -n -u egec /opt/egec/bin/egec verify --pam",
        PAM_USER="5079512743",
        PAM_RHOST="192.0.2.7",
        PAM_SERVICE="egec",
    )
    folder, *lines = ended.out.splitlines()
    arrived = dict(line.partition("=")[::2] for line in lines)
    assert folder == STATE
    assert (arrived["PAM_USER"], arrived["PAM_RHOST"]) == ("5079512743", "192.0.2.7")
    assert {name for name, value in ATTACKS.items() if arrived.get(name) == value} == set()
    assert set(arrived) <= {
        "PAM_USER", "PAM_RHOST", "PATH", "HOME", "PWD", "OLDPWD", "SHELL", "USER", "LOGNAME", "MAIL", "TERM", "LANG",
        "SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND", "SUDO_HOME", "_", "SHLVL",
    }  # fmt: skip


def test_the_servers_account_does_not_choose_the_folder(besieged: Host) -> None:
    besieged.server.machine.write("/opt/egec/bin/egec", "#!/bin/sh\npwd\n", mode=0o755)
    for option in ("", f"-D {HOSTILE}", f"--chdir={HOSTILE}"):
        ended = as_server(besieged, f"sudo -n {option} -u egec /opt/egec/bin/egec verify --stdin")
        assert ended.out in {f"{STATE}\n", ""}, ended
        assert option or ended.out


@pytest.mark.parametrize(
    "call",
    [
        *(f"sudo -n -u egec {name}='{value}' /opt/egec/bin/egec verify --stdin" for name, value in ATTACKS.items()),
        "PYTHONPATH=/srv/hostile sudo -n -E -u egec /opt/egec/bin/egec verify --stdin",
        "PYTHONPATH=/srv/hostile sudo -n --preserve-env=PYTHONPATH -u egec /opt/egec/bin/egec verify --stdin",
        "sudo -n -u egec /opt/egec/bin/egec client list",
        "sudo -n -u egec /opt/egec/bin/egec --env-file .env verify --stdin",
        "sudo -n -u root /opt/egec/bin/egec verify --stdin",
        "sudo -n -u egec /srv/hostile/run",
    ],
)
def test_sudo_refuses_what_would_let_the_servers_account_choose(besieged: Host, call: str) -> None:
    ended = as_server(besieged, call, typed="\n\n")
    assert ended.code == 1
    assert "sudo: " in ended.err
    assert marks(besieged) == ""


def test_the_traps_work_if_the_rule_passes_variables(besieged: Host) -> None:
    loose = "www-data ALL=(egec) NOPASSWD:SETENV: /opt/egec/bin/egec verify --stdin\n"
    besieged.server.machine.write(SUDOERS.path, loose, mode=0o440)
    as_server(besieged, f"sudo -n -u egec PYTHONPATH={HOSTILE} /opt/egec/bin/egec verify --stdin", typed="\n\n")
    assert marks(besieged).strip() == besieged.server.machine.must(["id", "-u", "egec"]).strip()


def test_apache_lets_in_who_has_the_right_password(host: Host) -> None:
    identifier, password = host.login
    with apache(host, APACHE.text) as port:
        assert answer(page(port), identifier, password) == 200
        assert answer(page(port), identifier, "wrong") == 401
        assert answer(page(port), "1111111111", password) == 401
    assert host.verdicts() == ["accepted", "refused", "refused"]


def test_apache_remembers_a_login_for_a_while(host: Host) -> None:
    provider = "    AuthBasicProvider external\n"
    assert APACHE.text.count(provider) == 1
    with apache(host, APACHE.text.replace(provider, APACHE_CACHE.text)) as port:
        assert [answer(page(port), *host.login) for _ in range(4)] == [200] * 4
        assert answer(page(port), host.login[0], "wrong") == 401
    assert host.verdicts() == ["accepted"]


@pytest.fixture
def pam(host: Host) -> Host:
    host.has(SUDOERS, PAM_SCRIPT, PAM)
    return host


@pytest.mark.parametrize("user", ["root", "www-data"])
def test_pam_lets_in_who_has_the_right_password(pam: Host, user: str) -> None:
    pamtester = require_program("pamtester", "pamtester")
    identifier, password = pam.login
    for typed, code in ((password, 0), ("wrong", 1)):
        ended = pam.server.machine.run([pamtester, "egec", identifier, "authenticate"], user=user, typed=f"{typed}\n")
        assert ended.code == code, ended
    assert pam.verdicts() == ["accepted", "refused"]


def test_nginx_lets_in_by_pam_who_has_the_right_password(pam: Host) -> None:
    binary = require_program("nginx", "nginx libnginx-mod-http-auth-pam")
    if not Path("/usr/lib/nginx/modules/ngx_http_auth_pam_module.so").exists():
        pytest.skip("the module auth_pam is missing: apt-get install libnginx-mod-http-auth-pam")
    port = free_port()
    pam.server.machine.write("/srv/nginx.conf", AROUND_NGINX.format(port=port, shown=NGINX.text))
    identifier, password = pam.login
    with running(pam.server.machine.entered([binary, "-c", "/srv/nginx.conf"]), port, Path(os.devnull)):
        assert answer(page(port), identifier, password) == 200
        assert answer(page(port), identifier, "wrong") == 401
    assert pam.verdicts() == ["accepted", "refused"]


def test_dovecot_lets_in_who_has_the_right_password(host: Host) -> None:
    binary, doveadm = require_program("dovecot", "dovecot-core"), require_program("doveadm", "dovecot-core")
    host.has(DOVECOT_SCRIPT)
    host.server.machine.write("/srv/dovecot.conf", AROUND_DOVECOT.format(shown=DOVECOT.text))
    identifier, password = host.login
    server = subprocess.Popen(
        host.server.machine.entered([binary, "-F", "-c", "/srv/dovecot.conf"]), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while host.server.machine.run(["test", "-e", "/srv/run/auth-client"]).code:
            assert server.poll() is None, server.communicate()
            assert time.monotonic() < deadline, "Dovecot does not come up"
        for typed, says in ((password, "auth succeeded"), ("wrong", "auth failed")):
            ended = host.server.machine.run(
                [doveadm, "-c", "/srv/dovecot.conf", "auth", "test", "--", identifier, typed]
            )
            assert says in ended.out, (ended, host.server.machine.must(["cat", "/srv/dovecot.log"]))
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)
    assert host.verdicts() == ["accepted", "refused"]
