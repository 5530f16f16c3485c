"""Programs that some tests need and a bare machine lacks: such a test is skipped and names the package to install."""

import os
import re
import shutil
from collections.abc import Iterable

import pytest

# Debian keeps servers and administrators' tools in /usr/sbin, which is not in every account's PATH.
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# The Debian package of each program that examples in the README call, beside the tools that every system has.
PACKAGES = {
    "bash": "bash",
    "install": "coreutils",
    "jq": "jq",
    "openssl": "openssl",
    "sudo": "sudo",
    "useradd": "passwd",
    "visudo": "sudo",
}


def require_program(name: str, package: str = "") -> str:
    """Return the path of a program. Skip the test if the program is not installed.

    Args:
        name: the program's name.
        package: the Debian package that has it, unless PACKAGES names it.
    """
    found = shutil.which(name, path=SEARCHED)
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install {package or PACKAGES[name]}")
    return found


def require_programs_in(script: str, *, beside: Iterable[str] = ()) -> None:
    """Skip the test if a program of PACKAGES that the script calls is not installed.

    Args:
        script: commands for a shell.
        beside: further programs that the test needs.
    """
    called = {name for name in PACKAGES if re.search(rf"(^|[\s(|;&]){name} ", script, flags=re.MULTILINE)}
    for name in sorted(called | set(beside)):
        require_program(name)
