"""The actor in words: the user of the operating system comes first, before any claim of the environment."""

import json
import os
import pwd
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egec_cli import context
from tests.conftest import Egec

CRON = "0::/system.slice/cron.service\n"
SSH = "0::/user.slice/user-1000.slice/session-3.scope\n"


def test_a_user_alone_is_the_actor() -> None:
    assert context.describe_actor("egec") == "egec"
    assert context.describe_actor("jeanne", behind="jeanne", groups=SSH) == "jeanne"


def test_the_user_behind_sudo_or_su_is_named() -> None:
    assert context.describe_actor("root", behind="jeanne") == "root (jeanne)"


def test_a_user_that_only_the_environment_names_is_shown_as_a_claim() -> None:
    assert context.describe_actor("root", claimed="jeanne") == "root (claimed jeanne)"
    assert context.describe_actor("root", behind="marc", claimed="jeanne (x)") == "root (marc, claimed jeanne??x?)"


@pytest.mark.parametrize(
    ("groups", "service"),
    [
        (CRON, "cron.service"),
        ("0::/system.slice/system-egec.slice/egec@nightly.service\n", "egec@nightly.service"),
        ("4:memory:/x\n1:name=systemd:/system.slice/apache2.service\n0::/\n", "apache2.service"),
        ("0::/system.slice/dovecot.service/worker\n", "dovecot.service"),
    ],
)
def test_the_system_service_that_runs_the_command_is_named(groups: str, service: str) -> None:
    assert context.describe_actor("egec", groups=groups) == f"egec (by {service})"


@pytest.mark.parametrize(
    "groups",
    [SSH, "0::/\n", "", "0::/system.slice/docker-0a1b.scope\n", "4:memory:/system.slice/cron.service\n"],
)
def test_only_a_system_service_is_named(groups: str) -> None:
    assert context.describe_actor("egec", groups=groups) == "egec"


def test_the_person_that_a_program_acts_for_follows_its_user() -> None:
    told = context.describe_actor("www-data", groups="0::/system.slice/apache2.service", acting_for="jeanne.martin")
    assert told == "www-data (by apache2.service, for jeanne.martin)"


@given(st.text(), st.text())
def test_a_claim_cannot_change_what_precedes_it(behind: str, acting_for: str) -> None:
    told = context.describe_actor("www-data", behind=behind, groups=CRON, acting_for=acting_for)
    assert told.partition(" (")[0] == "www-data"
    before, _, _ = told.removeprefix("www-data (").partition("by cron.service")
    assert not set(before.removesuffix(", ")) & set("(), \n\r\x1b")


def test_the_actor_of_this_process_is_its_user_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    found = context.detect_actor("jeanne.martin")
    assert found.user.startswith(pwd.getpwuid(os.getuid()).pw_name)
    assert found.user.endswith("for jeanne.martin)")
    assert found.host == socket.gethostname()


def processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *ancestors: tuple[str, int], login: str = "4294967295"
) -> None:
    """Simulate `/proc` for this process and its ancestors, nearest first: name and user of each."""
    (folder / "self").mkdir()
    (folder / "self" / "loginuid").write_text(login)
    numbers = [os.getppid(), *range(1001, 1000 + len(ancestors)), 0]
    for number, parent, (name, user) in zip(numbers, numbers[1:], ancestors, strict=False):
        (folder / str(number)).mkdir()
        (folder / str(number) / "status").write_text(f"Name:\t{name}\nPPid:\t{parent}\nUid:\t{user}\t{user}\t0\t0\n")
    monkeypatch.setattr(context, "_PROCESSES", folder)


ME = pwd.getpwuid(os.getuid()).pw_name
DAEMON = pwd.getpwnam("daemon").pw_uid


@pytest.mark.parametrize(
    ("login", "told"),
    [("4294967295", f"{ME} (claimed marc)"), ("", f"{ME} (claimed marc)"), (str(DAEMON), f"{ME} (daemon)")],
)
def test_the_kernel_overrides_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str, told: str) -> None:
    if os.getuid() == DAEMON:
        pytest.skip("this runs as the user that the test needs as another one")
    processes(tmp_path, monkeypatch, login=login)
    monkeypatch.setenv("SUDO_USER", "marc")
    assert context.detect_actor().user == told


@pytest.mark.parametrize(
    ("ancestors", "told"),
    [
        ([("sudo", 0), ("bash", DAEMON), ("init", 0)], f"{ME} (daemon)"),
        # With a terminal of its own, sudo runs twice.
        ([("sh", 0), ("sudo", 0), ("sudo", 0), ("bash", DAEMON)], f"{ME} (daemon)"),
        ([("sudo", 0), ("bash", 54321)], f"{ME} (54321, claimed daemon)"),
        # Any user can give a program this name.
        ([("sudo", 54321), ("bash", DAEMON)], f"{ME} (claimed daemon)"),
        ([("bash", 0), ("bash", DAEMON)], f"{ME} (claimed daemon)"),
        ([("sudo", 0)], f"{ME} (claimed daemon)"),
        ([], f"{ME} (claimed daemon)"),
    ],
)
def test_sudo_user_is_a_claim_unless_the_processes_support_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ancestors: list[tuple[str, int]], told: str
) -> None:
    processes(tmp_path, monkeypatch, *ancestors)
    monkeypatch.setenv("SUDO_USER", "daemon")
    assert context.detect_actor().user == told


def test_a_claim_of_the_environment_is_recorded_as_a_claim(egec_process: Egec) -> None:
    if Path("/proc/self/loginuid").exists() and Path("/proc/self/loginuid").read_text() != "4294967295":
        pytest.skip("this process has a login user, which overrides SUDO_USER")
    egec_process("client", "create", "jeanne@example.org", env={"SUDO_USER": "marc", "EGEC_ACTOR": "jeanne.martin"})
    listed = egec_process("audit", "list", "--action", "client.create", "--format", "json")
    [event] = json.loads(listed.out)
    assert "claimed marc" in event["actor"]
    assert event["actor"].endswith("for jeanne.martin)")
