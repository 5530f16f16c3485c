"""The memo, acted out with a real browser at the guide's portal under the real Apache, on both databases."""

import http.client
import os
import select
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from egec_cli.settings.types import Tls
from tests.activations import Letter, letters, wait_until
from tests.callers.service_account import free_port, running
from tests.callers.test_recipes import ATTACKS, HOSTILE
from tests.callers.visitor import Visitor
from tests.mail.browser import running_browser
from tests.manual.blocks import CHECKOUT, executed_by
from tests.manual.machine import machine
from tests.manual.server import INSTALL, Server
from tests.manual.units import Unit
from tests.programs import require_program, require_programs_in
from tests.smtp_server import Fault, MailServer

# All tests share one browser, on one worker.
pytestmark = pytest.mark.xdist_group("portal")

SUDOERS, PORTAL, SITE, UNIT = executed_by("tests/callers/test_portal.py")
FIXTURE = CHECKOUT / "tests" / "callers" / "portal" / "portal"
MODULES = Path("/usr/lib/apache2/modules")
LOADED = ("mpm_prefork", "unixd", "authz_core", "alias", "cgid", "env")
AROUND = """
ServerRoot /srv
ServerName localhost
Listen 127.0.0.1:{port}
User www-data
Group www-data
PidFile /srv/apache.pid
ScriptSock /srv/cgi.sock
DefaultRuntimeDir /srv
ErrorLog /srv/error.log
DocumentRoot /srv/www
{modules}
{site}
"""
JEANNE = "jeanne@example.org"
SENT = (
    "Un courriel a été envoyé dans votre b-a-l, avec des instructions.\n"
    "La réception peut atteindre 5 min. Vérifiez éventuellement dans vos SPAMs"
)
REFUSED = "Identifiant et/ou m-d-p non reconnu(s)"
ADVICE = (
    "Recommencez l\u2019opération, en prenant soin de saisir correctement le courriel.\n"
    "Si le problème persiste, contactez\u00a0: Service IT."
)
UNAVAILABLE = "Le service est momentanément indisponible\u00a0: votre demande n\u2019a pas pu aboutir."
SIGNED_IN = "Vous êtes connecté."
TELEPHONE, DESK = 360, 1280
SOCKET = ".s.PGSQL.5432"


class Office(NamedTuple):
    """The portal on a server, its mail server, and a client at its page."""

    server: Server
    mail_server: MailServer
    url: str
    client: Visitor

    def message(self) -> str:
        """Return the message on the page, which is on the screen without scrolling."""
        assert self.client.value("document.querySelector('[role]')?.getBoundingClientRect().top < innerHeight")
        return str(self.client.value("document.querySelector('[role]')?.innerText ?? ''"))

    def request(self, email: str) -> str:
        """Request a password as the memo says; return the message."""
        self.client.open(self.url)
        self.client.click("a[href='#activation']")
        self.client.fill(courriel=email)
        self.client.click("button[value=activation]", leads_elsewhere=True)
        return self.message()

    def sign_in(self, identifier: str, password: str) -> str:
        """Sign in; return the message."""
        self.client.open(self.url)
        self.client.fill(identifiant=identifier, mot_de_passe=password)
        self.client.click("button[value=connexion]", leads_elsewhere=True)
        return self.message()

    def set(self, line: str) -> None:
        """Add a line to the settings."""
        self.server.machine.must(["sh", "-c", f"echo '{line}' >> /etc/egec/egec.env"])

    def received(self) -> list[Letter]:
        """Return the mails so far."""
        return letters(self.mail_server)


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    """Start a browser whose pages run no scripts."""
    with running_browser() as browser:
        visitor = Visitor(browser)
        visitor.forbid_scripts()
        yield visitor


@pytest.fixture(params=["sqlite", "postgresql"])
def office(request: pytest.FixtureRequest, visitor: Visitor) -> Iterator[Office]:
    binary = require_program("apache2", "apache2")
    require_programs_in(INSTALL.text, beside=["sudo"])
    if not (MODULES / "mod_cgid.so").exists():
        pytest.skip("mod_cgid is missing: apt-get install apache2")
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as mail_server, machine() as made:
        server = Server.installed(made, mail_server)
        server.may_be_worked_at()
        if request.param == "postgresql":
            url = request.getfixturevalue("relayed")()
            made.must(["sh", "-c", f"echo 'EGEC_DATABASE_URL={url}' >> /etc/egec/egec.env"])
        for block in (SUDOERS, PORTAL):
            made.write(block.path, block.text, mode=block.permissions)
        created = server.egec("client", "create", JEANNE, "--civility", "Mme", "--last-name", "Dupont")
        assert created.code == 0, created
        port = free_port()
        modules = "\n".join(
            f"LoadModule {name}_module {MODULES}/mod_{name}.so"
            for name in LOADED
            if (MODULES / f"mod_{name}.so").exists()
        )
        made.write("/srv/www/empty", "")
        made.write("/srv/apache.conf", AROUND.format(port=port, modules=modules, site=SITE.text))
        command = made.entered([binary, "-DFOREGROUND", "-f", "/srv/apache.conf"])
        with running(command, port, Path(os.devnull)):
            yield Office(server, mail_server, f"http://localhost:{port}/compte", visitor)


class _Relay(socketserver.ThreadingUnixStreamServer):
    """Passes connections on to another socket."""

    def __init__(self, near: str, far: str) -> None:
        self.far = far
        super().__init__(near, _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Relay

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as far:
            far.connect(self.server.far)
            other = {self.request: far, far: self.request}
            while True:
                for source in select.select(list(other), [], [])[0]:
                    data = source.recv(1 << 16)
                    if not data:
                        return
                    other[source].sendall(data)


@pytest.fixture
def relayed(postgresql: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Return a function that makes a PostgreSQL database which other accounts can reach, and returns its URL."""
    with tempfile.TemporaryDirectory(prefix="egec-relay-") as folder, ExitStack() as stack:
        os.chmod(folder, 0o755)

        def make() -> str:
            name, _, real = postgresql().partition("?host=")
            relay = stack.enter_context(_Relay(f"{folder}/{SOCKET}", f"{real}/{SOCKET}"))
            os.chmod(f"{folder}/{SOCKET}", 0o777)
            stack.callback(relay.shutdown)
            threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
            return f"{name}?host={folder}"

        yield make


def test_the_memo_is_acted_out(office: Office) -> None:
    # The four steps, with pasted blanks and capitals.
    office.client.resize(TELEPHONE)
    assert office.request("  Jeanne@EXAMPLE.org ") == SENT
    [first] = office.received()
    assert office.sign_in(f" {first.identifier}\u00a0", f"\u00a0{first.password} ") == SIGNED_IN
    # Again at once: the same answer, and the mail of a moment ago stays the last one.
    assert office.request(JEANNE) == SENT
    assert office.received() == [first]
    assert office.sign_in(first.identifier, first.password.swapcase()) == REFUSED
    assert office.sign_in(first.identifier, first.password) == SIGNED_IN
    # A wrong e-mail.
    assert office.request("jeane@example.org") == f"{REFUSED}\n{ADVICE}"
    # A forgotten password: two mails, of which only the last signs in.
    office.set("EGEC_REQUESTS_PER_CLIENT=0")
    assert office.request(JEANNE) == SENT
    # A reload sends no form again, and the address says nothing about the client.
    office.client.reload()
    assert office.message() == SENT
    assert office.client.value("location.href") == f"{office.url}?envoye#activation"
    [_, last] = office.received()
    assert last.identifier == first.identifier
    assert office.sign_in(first.identifier, first.password) == REFUSED
    assert office.sign_in(last.identifier, last.password) == SIGNED_IN
    assert office.client.value("location.href") == f"{office.url}?connecte"
    # The mail server is down: the client may keep the password.
    office.mail_server.fail_always(Fault.CUT_AT_EHLO)
    assert office.request(JEANNE).startswith(UNAVAILABLE)
    assert office.sign_in(last.identifier, last.password) == SIGNED_IN
    events = office.server.egec("audit", "list", "--action", "client.request", "--fields", "outcome", "--format", "ids")
    assert events.out.split() == ["accepted", "limited", "refused", "accepted", "failed"]
    # Undisclosed: the answer leaves before the work, which outlives sudo and the program of the web server.
    office.mail_server.work_again()
    office.set("EGEC_REQUEST_DISCLOSES=no")
    assert office.request("jeane@example.org") == SENT
    assert office.request(JEANNE) == SENT
    wait_until(lambda: len(office.received()) == 3)
    assert office.sign_in(last.identifier, office.received()[-1].password) == SIGNED_IN


@pytest.mark.parametrize("office", ["sqlite"], indirect=True)
def test_the_page_works_by_keyboard_for_screen_readers_on_every_screen_and_for_its_own_forms_only(
    office: Office,
) -> None:
    client = office.client
    client.open(office.url)
    for width in (320, TELEPHONE, DESK):
        client.resize(width)
        assert client.value("document.documentElement.scrollWidth") == width
        assert (
            client.value("Math.min(...[...document.querySelectorAll('input, button')].map(e => e.offsetHeight))") > 43
        )
    assert client.named("textbox") == ["Identifiant", "Mot de passe", "Votre courriel"]
    assert client.named("button") == ["SE CONNECTER", "ENVOYER"]
    assert client.named("link") == ["identifiant, mot de passe…"]
    assert client.named("heading") == ["Application eGEC", "Identification", "Activation du compte"]
    assert client.named("region") == ["Identification", "Activation du compte"]
    assert client.value("document.documentElement.lang") == "fr"
    # By keyboard alone: the link is the fourth stop, and leads to the other pane.
    stops = []
    for _ in range(4):
        client.press("Tab", 9)
        stops.append(client.value("document.activeElement.id || document.activeElement.innerText"))
    assert stops == ["identifiant", "mot-de-passe", "SE CONNECTER", "identifiant, mot de passe…"]
    client.press("Enter", 13)
    assert client.value("location.hash") == "#activation"
    client.press("Tab", 9)
    assert client.value("document.activeElement.id") == "courriel"
    client.type("nobody@example.org")
    client.press("Enter", 13, leads_elsewhere=True)
    assert client.value("document.title") == "Erreur \u2013 eGEC"
    assert client.named("alert") == [] or office.message() == f"{REFUSED}\n{ADVICE}"
    assert client.value("document.querySelector('#activation [role=alert]') !== null")
    # A form of another site is refused, and egec is not asked.
    client.show(f"<form method=post action='{office.url}'><input name=courriel value={JEANNE}>"
                "<button name=acte value=activation>x</button></form>")  # fmt: skip
    client.click("button", leads_elsewhere=True)
    assert office.message().startswith("La demande ne vient pas de cette page")
    assert office.received() == []


def test_the_guide_shows_the_program_that_the_tests_use() -> None:
    assert PORTAL.text == FIXTURE.read_text(encoding="utf-8")
    assert len(PORTAL.text.splitlines()) <= 165
    # What the page says after a redirect is what egec says.
    assert (CHECKOUT / "templates" / "sent.fr.txt").read_text(encoding="utf-8").strip() == SENT
    assert (PORTAL.permissions, SUDOERS.permissions) == (0o755, 0o440)


def test_the_unit_of_apache_writes_no_core_dumps() -> None:
    unit = Unit.read(UNIT.text)
    assert (unit.one("LimitCORE"), unit.one("UMask")) == ("0", "0077")


def test_sudo_refuses_what_the_rule_does_not_name() -> None:
    require_programs_in(INSTALL.text, beside=["sudo"])
    egec = "/opt/egec/bin/egec"
    calls = [
        *(f"sudo -n -u egec {name}='{value}' {egec} activate --stdin" for name, value in ATTACKS.items()),
        f"sudo -n -u egec {egec} activate jeanne@example.org",
        f"sudo -n -u egec {egec} activate --stdin --format json",
        f"sudo -n -u egec {egec} activate --no-mail --show-password jeanne@example.org",
        f"sudo -n -D {HOSTILE} -u egec {egec} activate --stdin",
        f"sudo -n -u root {egec} activate --stdin",
    ]
    with machine() as made:
        made.must(["sh", "-c", "useradd --system -d /var/lib/egec egec 2> /dev/null"])
        made.must(["install", "-d", "-o", "egec", "/var/lib/egec"])
        made.write(SUDOERS.path, SUDOERS.text, mode=SUDOERS.permissions)
        made.write(egec, "#!/bin/sh\npwd\n", mode=0o755)
        for call in calls:
            ended = made.run(["sh", "-c", call], user="www-data")
            assert (ended.code, ended.out) == (1, ""), call
        allowed = made.run(["sh", "-c", f"sudo -n -u egec {egec} activate --stdin"], user="www-data")
        assert (allowed.code, allowed.out) == (0, "/var/lib/egec\n")


FORM = b"acte=connexion&identifiant=5079512743&mot-de-passe=x"


def asked(method: str = "POST", body: bytes = FORM, **given: str) -> tuple[str, str]:
    """Ask the program as a web server does, where egec cannot be run; return the status and the page."""
    environment = {"REQUEST_METHOD": method, "CONTENT_LENGTH": str(len(body)), "PATH": "/missing", "HTTP_HOST": "here"}
    ended = subprocess.run(
        [sys.executable, FIXTURE],
        input=body,
        env={**environment, "HTTP_SEC_FETCH_SITE": "same-origin", **given},
        capture_output=True,
        check=True,
    )
    headers, _, page = ended.stdout.decode().partition("\n\n")
    return headers.splitlines()[0].removeprefix("Status: "), page


UNREADABLE = "La demande est incomplète ou trop longue. Recommencez ici."


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", "0"),
        (b"", ""),
        (FORM, ""),
        (FORM, "nonsense"),
        (FORM, str(len(FORM) + 1)),
        (FORM + b"&x=" + b"x" * 5000, str(len(FORM) + 5003)),
        (FORM.replace(b"acte", b"act"), str(len(FORM) - 1)),
        (FORM.replace(b"connexion", b"autres"), str(len(FORM) - 3)),
        (FORM.replace(b"=x", b"=\xc3\xa9"), str(len(FORM) + 1)),
        (FORM + b"&a=b" * 10, str(len(FORM) + 40)),
    ],
    ids=["empty", "none", "chunked", "no number", "cut off", "too long", "no act", "other act", "not ASCII", "fields"],
)
def test_a_malformed_form_is_refused_in_words_of_its_own_without_asking_egec(body: bytes, length: str) -> None:
    status, page = asked(body=body, CONTENT_LENGTH=length)
    assert status == "400 Bad Request"
    assert UNREADABLE in page
    # Where egec is asked, it is missing.
    assert asked()[0] == "503 Service Unavailable"


@pytest.mark.parametrize(
    ("given", "is_own"),
    [
        ({"HTTP_ORIGIN": "https://here"}, True),
        ({"HTTP_ORIGIN": "https://there"}, False),
        ({"HTTP_ORIGIN": "https://here", "HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ({"HTTP_ORIGIN": "null"}, False),
        ({"HTTP_ORIGIN": "https://["}, False),
        ({}, False),
        ({"HTTP_HOST": ""}, False),
        ({"HTTP_HOST": "", "HTTP_ORIGIN": ""}, False),
        ({"HTTP_HOST": "", "HTTP_ORIGIN": "https://"}, False),
    ],
)
def test_only_forms_of_the_same_site_are_accepted(given: dict[str, str], is_own: bool) -> None:
    ended = subprocess.run(
        [sys.executable, FIXTURE],
        input=FORM,
        env={"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "1", "HTTP_HOST": "here", **given},
        capture_output=True,
        check=True,
    )
    # A length that is wrong: a form of the same site goes no further.
    assert ended.stdout.startswith(b"Status: 400" if is_own else b"Status: 403")


@pytest.mark.parametrize("office", ["sqlite"], indirect=True)
def test_every_answer_is_complete_whatever_the_body(office: Office) -> None:
    host = urlsplit(office.url).netloc
    own = {"Origin": f"http://{host}", "Content-Type": "application/x-www-form-urlencoded"}
    body = b"x" * 4000
    for method, headers, sent, status in (
        ("POST", {"Origin": "http://elsewhere"}, body, 403),
        ("POST", {}, body, 403),
        ("PUT", own, body, 200),
        ("GET", own, body, 200),
        ("GET", own, None, 200),
        ("POST", own, body, 400),
        ("POST", own, None, 400),
    ):
        connection = http.client.HTTPConnection(host, timeout=30)
        began = time.monotonic()
        connection.request(method, "/compte", sent, headers)
        answer = connection.getresponse()
        page = answer.read().decode()
        assert (answer.status, page[-8:]) == (status, "</html>\n"), (method, headers)
        # Apache waits five seconds for a program that leaves a body unread.
        assert time.monotonic() - began < 4, (method, headers)
        connection.close()
    assert office.server.egec("audit", "list", "--action", "login", "--format", "count").out == "0\n"
