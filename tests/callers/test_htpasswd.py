"""Other programs accept the stored hashes unchanged: `identifier:hash` lines, and PHP."""

import subprocess

import pytest

from tests.callers.site import Site
from tests.programs import require_program


@pytest.mark.parametrize(("typed", "code"), [("", 0), ("x", 3)])
def test_htpasswd_takes_a_line_of_identifier_and_hash(site: Site, typed: str, code: int) -> None:
    htpasswd = require_program("htpasswd", "apache2-utils")
    identifier, password = site.account()
    (site.folder / "users").write_text(f"{identifier}:{site.stored_hash(identifier)}\n")
    command = [htpasswd, "-v", "-i", str(site.folder / "users"), identifier]
    done = subprocess.run(command, input=f"{typed}{password}\n", text=True, capture_output=True)
    assert done.returncode == code, done.stderr


def test_php_takes_a_stored_hash(site: Site) -> None:
    php = require_program("php", "php-cli")
    identifier, password = site.account()
    code = (
        "[$p, $h] = explode(' ', fgets(STDIN)); echo json_encode([password_verify($p, $h), password_verify('x', $h)]);"
    )
    given = f"{password} {site.stored_hash(identifier)}"
    done = subprocess.run([php, "-r", code], input=given, text=True, capture_output=True, check=True)
    assert done.stdout == "[true,false]"
