"""Who asks, in words: whatever the environment claims, the user of the operating system comes first."""

import os
import pwd
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli.accounts import actor

CRON = "0::/system.slice/cron.service\n"
SSH = "0::/user.slice/user-1000.slice/session-3.scope\n"


def test_a_user_alone_is_the_actor() -> None:
    assert actor.described("egec") == "egec"
    assert actor.described("jeanne", behind="jeanne", groups=SSH) == "jeanne"


def test_who_is_behind_sudo_or_su_is_told() -> None:
    assert actor.described("root", behind="jeanne") == "root (jeanne)"


@pytest.mark.parametrize(
    ("groups", "service"),
    [
        (CRON, "cron.service"),
        ("0::/system.slice/system-egec.slice/egec@nightly.service\n", "egec@nightly.service"),
        ("4:memory:/x\n1:name=systemd:/system.slice/apache2.service\n0::/\n", "apache2.service"),
        ("0::/system.slice/dovecot.service/worker\n", "dovecot.service"),
    ],
)
def test_the_service_of_the_system_that_runs_it_is_told(groups: str, service: str) -> None:
    assert actor.described("egec", groups=groups) == f"egec (by {service})"


@pytest.mark.parametrize(
    "groups",
    [SSH, "0::/\n", "", "0::/system.slice/docker-0a1b.scope\n", "4:memory:/system.slice/cron.service\n"],
)
def test_what_is_no_service_of_the_system_is_not_told(groups: str) -> None:
    assert actor.described("egec", groups=groups) == "egec"


def test_for_whom_a_program_acts_stands_beside_its_user() -> None:
    told = actor.described("www-data", groups="0::/system.slice/apache2.service", acting_for="jeanne.martin")
    assert told == "www-data (by apache2.service, for jeanne.martin)"


@given(st.text(), st.text())
def test_no_claim_changes_what_comes_before_it(behind: str, acting_for: str) -> None:
    told = actor.described("www-data", behind=behind, groups=CRON, acting_for=acting_for)
    assert told.partition(" (")[0] == "www-data"
    before, _, _ = told.removeprefix("www-data (").partition("by cron.service")
    assert not set(before.removesuffix(", ")) & set("(), \n\r\x1b")


def test_the_actor_of_this_process_is_its_user_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    found = actor.of_this_process("jeanne.martin")
    assert found.user.startswith(pwd.getpwuid(os.getuid()).pw_name)
    assert found.user.endswith("for jeanne.martin)")
    assert found.host == socket.gethostname()


@pytest.mark.parametrize(("login", "told"), [("4294967295", "marc"), ("", "marc"), ("1", "daemon")])
def test_the_kernel_is_believed_before_sudo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str, told: str
) -> None:
    if os.getuid() == 1:
        pytest.skip("this runs as the user that the test takes for another one")
    (tmp_path / "loginuid").write_text(login)
    monkeypatch.setattr(actor, "_PROCESS", tmp_path)
    monkeypatch.setenv("SUDO_USER", "marc")
    assert actor.of_this_process().user == f"{pwd.getpwuid(os.getuid()).pw_name} ({told})"
