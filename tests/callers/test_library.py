"""`egec` as a library of a Python program, as the README shows it."""

import os
import subprocess
import sys

from tests.activations import letters
from tests.callers.site import CHECKOUT, Site
from tests.manual.blocks import executed_by
from tests.smtp_server import MailServer

ONE_LOGIN, FROM_THREADS, FIRST_MAIL = (block.text for block in executed_by("tests/callers/test_library.py"))
IMPORTS = ONE_LOGIN.partition("identifier, password = ")[0]
EIGHT_THREADS = f"""{IMPORTS}
from concurrent.futures import ThreadPoolExecutor

{FROM_THREADS}
    with ThreadPoolExecutor(8) as pool:
        print(*pool.map(lambda line: is_accepted(*line.split()), sys.stdin))
"""


def run(site: Site, typed: str, program: str = ONE_LOGIN) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EGEC_ENV_FILE": str(site.env_file), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, input=typed, text=True, capture_output=True, env=environment, timeout=60)


def test_a_python_program_checks_a_login(site: Site) -> None:
    identifier, password = site.account()
    assert run(site, f"{identifier} {password}").stdout == "welcome\n"
    assert run(site, f"{identifier} wrong").stdout == "no\n"


def test_a_database_error_reaches_the_caller(site: Site) -> None:
    (site.folder / "egec.db").unlink()
    done = run(site, "1234567890 x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "egec.db" in done.stderr
    assert "egec init" in done.stderr


def test_a_python_program_checks_logins_from_several_threads(site: Site) -> None:
    logins = [site.account(), site.account("marc@example.org"), ("1111111111", "x")]
    done = run(site, "".join(f"{identifier} {password}\n" for identifier, password in logins * 8), EIGHT_THREADS)
    assert done.stdout.split() == ["True", "True", "False"] * 8, done.stderr


def test_a_python_program_creates_a_client_and_mails_the_first_password(site: Site) -> None:
    with MailServer() as server:
        with site.env_file.open("a") as settings:
            settings.write(f"EGEC_MAIL_URL={server.url}\n")
        done = run(site, "", f"{IMPORTS}\n{FIRST_MAIL}")
        (received,) = letters(server)
    assert done.stdout == f"{received.identifier} accepted\n", done.stderr
    assert run(site, f"{received.identifier} {received.password}").stdout == "welcome\n"
