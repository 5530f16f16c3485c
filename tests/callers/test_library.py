"""`egec` as a library of a Python program, as the README shows it."""

import os
import subprocess
import sys

from tests.callers.site import CHECKOUT, Site

ONE_LOGIN = """
import sys

from egec_cli import settings
from egec_cli.accounts import login
from egec_cli.accounts.egec import opened
from egec_cli.errors import EgecError

identifier, password = sys.stdin.read().split()
try:
    with opened(settings.load()) as egec:
        accepted = login.verify(egec, identifier, password).accepted
except EgecError as error:
    sys.exit(f"{error.message} {error.hint}")
print("welcome" if accepted else "no")
"""

FROM_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor

from egec_cli import settings
from egec_cli.accounts import login
from egec_cli.accounts.egec import opened

with opened(settings.load()) as egec:

    def is_let_in(identifier: str, password: str) -> bool:
        with egec.database.connection_context():
            return login.verify(egec, identifier, password).accepted

    with ThreadPoolExecutor(8) as pool:
        print(*pool.map(lambda line: is_let_in(*line.split()), sys.stdin))
"""


def run(site: Site, typed: str, program: str = ONE_LOGIN) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EGEC_ENV_FILE": str(site.env_file), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, input=typed, text=True, capture_output=True, env=environment, timeout=60)


def test_a_python_program_checks_a_login(site: Site) -> None:
    identifier, password = site.account()
    assert run(site, f"{identifier} {password}").stdout == "welcome\n"
    assert run(site, f"{identifier} wrong").stdout == "no\n"


def test_it_is_told_what_is_wrong_with_the_database(site: Site) -> None:
    (site.folder / "egec.db").unlink()
    done = run(site, "1234567890 x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "egec.db" in done.stderr
    assert "egec init" in done.stderr


def test_a_python_program_checks_logins_from_several_threads(site: Site) -> None:
    logins = [site.account(), site.account("marc@example.org"), ("1111111111", "x")]
    done = run(site, "".join(f"{identifier} {password}\n" for identifier, password in logins * 8), FROM_THREADS)
    assert done.stdout.split() == ["True", "True", "False"] * 8, done.stderr
