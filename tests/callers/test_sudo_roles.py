"""The guide's sudo rules by role, tried with the real sudo: each allows what it says and nothing else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from egec_cli.settings.types import Tls
from tests.activations import letters
from tests.callers.test_recipes import ATTACKS, HOSTILE
from tests.conftest import Ended
from tests.manual.blocks import Block, executed_by
from tests.manual.machine import machine
from tests.manual.server import INSTALL, STATE, Server
from tests.manual.terminal import type_in
from tests.programs import require_programs_in
from tests.smtp_server import MailServer
from tests.test_docs import commands

GROUPS, *RULES = executed_by("tests/callers/test_sudo_roles.py")
PROGRAM = "/opt/egec/bin/egec"
PASSWORD = "anna's own"
CLIENT = "7130279332"


def lines(text: str) -> list[str]:
    """Return the commands of a list, one a line."""
    return [line.strip() for line in text.strip().splitlines()]


HELPDESK = lines(f"""
    client show jeanne@example.org
    client show {CLIENT}
    client show ref:D-2047
    client list
    client list --search dupont --status blocked
    client list --search dupont --limit 20
    activate jeanne@example.org
    client unblock {CLIENT}
    verify {CLIENT} --explain
    verify {CLIENT} --explain --no-count
    verify jeanne@example.org --explain
""")
AUDITOR = lines(f"""
    audit list
    audit list --since 7d --action client.erase
    audit list --client {CLIENT} --format jsonl
    client list
    client list --status disabled --format csv
    client show {CLIENT}
    reissue status
    reissue status spring-2026
""")
OPERATOR = lines(f"""
    client create jeanne@example.org --last-name 'Du Pont' --activate
    client import - --on-conflict update
    client export
    client list --from -
    client list --from - --format ids
    client disable --reason left --from -
    client enable --from - --format json
    client show {CLIENT} --full
    client update {CLIENT} --email new@example.org
    client erase {CLIENT} --yes
    client unblock {CLIENT}
    activate {CLIENT} --revoke
    activate {CLIENT} --no-mail --show-password
    reissue start spring-2026 --from - --exclude - --sentence 'Un mot.' --yes
    reissue resume spring-2026
    reissue retry spring-2026
    reissue cancel spring-2026 --yes
    reissue status spring-2026 --failed
    mail check
    mail preview --kind reissue --text
    mail test you@example.org
    mail bounces -
""")
# What would read, overwrite or reveal something: refused to everyone.
FORBIDDEN = lines(f"""
    init
    doctor
    db status
    db backup x.db
    db restore x.db
    db upgrade
    audit prune --yes
    password
    completion bash
    verify --stdin
    verify --pam
    verify --batch /etc/egec/mail_url
    verify --checkpassword -- {HOSTILE}/run
    --env-file {HOSTILE}/.env client list
    --verbose client list
    client export --output egec.db --force
    client export --output=egec.db
    client export --with-hashes
    client export --format htpasswd
    client export --format=htpasswd
    client import /etc/egec/mail_url
    client import --dry-run /etc/egec/mail_url
    client import - --rejects egec.db
    client import ./-
    client list --from /etc/egec/mail_url
    client list --from=/etc/egec/mail_url
    client list --from -x
    client list --exclude /etc/egec/mail_url
    client disable --reason x --from /etc/passwd
    reissue start x --from /etc/passwd
    reissue start x --all --exclude=/etc/passwd
    mail preview --html egec.db --force
    mail preview --eml=egec.db
    mail bounces /etc/egec/mail_url
    mail bounces --move /var/lib/egec/bounces
    client export --search "$(printf 'a\\nb')" --output egec.db
    client export --search "$(printf '\\377')" --output egec.db
    "client list" --output egec.db
""")
NOT_FOR_HELPDESK = lines(f"""
    activate {CLIENT} --no-mail --show-password
    activate --no-mail --show-password {CLIENT}
    activate {CLIENT} {CLIENT}
    activate {CLIENT} --revoke
    activate --help
    client unblock --from -
    client unblock --from /etc/passwd
    client show {CLIENT} --full=x
    verify {CLIENT}
    verify {CLIENT} --password-stdin
    verify {CLIENT} --no-count
    verify --explain --stdin
    verify {CLIENT} --explain --stdin
    client list --from -
    client list --status
    client list --search --from
    client list extra
    audit list
    client create x@example.org
    client erase {CLIENT} --yes
    client update {CLIENT} --email new@example.org
    reissue status
    mail test you@example.org
""")
NOT_FOR_AUDITOR = lines(f"""
    activate {CLIENT}
    client unblock {CLIENT}
    verify {CLIENT} --explain
    client export
    client list --from -
    audit list --since 7d extra
    audit list --output x
    reissue resume spring-2026
    reissue start x --all --yes
    mail check
""")
NOT_FOR_OPERATOR = lines(f"""
    audit list
    verify {CLIENT} --explain
    activated
    client
    mail
    client shown x
""")


class Role(NamedTuple):
    """What one rule allows, and what it must refuse besides `FORBIDDEN`."""

    allowed: list[str]
    refused: list[str]


ROLES = {
    "helpdesk": Role(HELPDESK, NOT_FOR_HELPDESK),
    "operator": Role(OPERATOR, NOT_FOR_OPERATOR),
    "auditor": Role(AUDITOR, NOT_FOR_AUDITOR),
}


class Desk(NamedTuple):
    """A server with the rule of one role, and anna, who has that role alone."""

    server: Server
    mail_server: MailServer

    def sudo(self, command: str, *, options: str = "-u egec", before: str = "", typed: str = "") -> Ended:
        """Type `sudo egec COMMAND` as anna, with her own password, in a folder of hers."""
        # A shell remains above sudo, as at a terminal: the audit log relies on it for the name of the person.
        line = f"{before} sudo -k -S -p '' {options} {PROGRAM} {command}; exit $?"
        typed = f"{PASSWORD}\n{typed}"
        return self.server.machine.run(["sh", "-c", line], user="anna", typed=typed, folder=HOSTILE)

    def types(self, command: str, answer: str) -> Ended:
        """Type `sudo egec COMMAND` as anna at a terminal, and this answer at the program's question."""
        line = f"sudo -k -u egec {PROGRAM} {command}; exit $?"
        return type_in(
            self.server.machine.entered(["setpriv", "--reuid=anna", "--regid=anna", "--init-groups", "sh", "-c", line]),
            folder=Path("/"),
            answers={"password for anna:": PASSWORD, "Password:": answer},
        )

    def shows_calls(self) -> None:
        """Put a program in the place of egec that shows its folder, environment and arguments."""
        self.server.machine.write(PROGRAM, '#!/bin/sh\npwd\nenv\nprintf "<%s>" "$@"\n', mode=0o755)


@contextmanager
def desk(role: str) -> Iterator[Desk]:
    """Make a server on which the guide's commands for this role were typed."""
    require_programs_in(INSTALL.text, beside=["sudo", "visudo", "useradd"])
    rule = rule_of(role)
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as mail_server, machine() as made:
        server = Server.installed(made, mail_server)
        server.may_be_worked_at()
        made.must(["useradd", "--no-create-home", "--shell", "/bin/sh", "anna"])
        made.must(["chpasswd", "--crypt-method", "SHA256", "--sha-rounds", "1000"], typed=f"anna:{PASSWORD}\n")
        made.must(["bash", "-euo", "pipefail", "-c", GROUPS.text.replace("egec-helpdesk", f"egec-{role}")])
        made.write(rule.path, rule.text, mode=rule.permissions)
        made.must(["visudo", "-cf", rule.path])
        made.must(["sh", "-c", f"install -d -o anna {HOSTILE}"])
        yield Desk(server, mail_server)


def rule_of(role: str) -> Block:
    [found] = [block for block in RULES if block.path == f"/etc/sudoers.d/egec-{role}"]
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_rule_allows_what_it_says_and_nothing_else(role: str) -> None:
    with desk(role) as made:
        made.shows_calls()
        for command in ROLES[role].allowed:
            ended = made.sudo(command)
            assert (ended.code, ended.out.splitlines()[0]) == (0, STATE), (command, ended)
        for command in ["", *FORBIDDEN, *ROLES[role].refused, *commands_of_others(role), *with_files(role)]:
            require_refusal(made.sudo(command), command)
        command = ROLES[role].allowed[0]
        exported = "".join(f"export {name}='{value}'; " for name, value in ATTACKS.items())
        for options in ("-u root", "-u anna", "-u egec -g root", "-E -u egec", "-u egec --preserve-env=PYTHONPATH"):
            require_refusal(made.sudo(command, options=options, before=exported), options)
        for name, value in ATTACKS.items():
            require_refusal(made.sudo(command, options=f"-u egec {name}='{value}'"), name)
        for options in ("-u egec", f"-u egec -D {HOSTILE}"):
            ended = made.sudo(command, before=exported, options=options)
            folder, *lines = ended.out.splitlines()
            assert folder == STATE
            assert [line for line in lines if HOSTILE in line or line.startswith(("EGEC_", "PYTHON", "LD_"))] == []


def require_refusal(ended: Ended, command: str) -> None:
    """Require that sudo did not run the program."""
    assert (ended.code, ended.out) == (1, ""), (command, ended)
    assert "sorry, you are not allowed to" in ended.err.lower() or "is not allowed to execute" in ended.err, (
        command,
        ended,
    )


def commands_of_others(role: str) -> set[str]:
    """Return a call of each command that no example of this role calls."""
    mine = [f"{one} " for one in ROLES[role].allowed]
    names = {path.removeprefix("egec ") for path in commands()}
    return {f"{name} {CLIENT}" for name in names if not any(one.startswith(f"{name} ") for one in mine)}


def with_files(role: str) -> set[str]:
    """Return calls of this role's commands with each option that reads or writes a file."""
    found = set()
    for path, command in commands().items():
        name = path.removeprefix("egec ")
        if any(f"{one} ".startswith(f"{name} ") for one in ROLES[role].allowed):
            for parameter in command.params:  # type: ignore[attr-defined]
                if parameter.param_type_name == "option" and "FILE" in parameter.make_metavar(None):
                    found |= {f"{name} {option}{mark}x" for option in parameter.opts for mark in (" ", "=")}
    return found


def test_the_search_for_options_with_files_finds_them() -> None:
    assert with_files("operator") >= {"client export --output x", "reissue start --from=x", "mail preview --eml x"}


def test_the_help_desk_works_with_clients_and_sees_no_password() -> None:
    with desk("helpdesk") as made:
        created = made.server.egec("client", "create", "jeanne@example.org", "--format", "ids")
        identifier = created.out.strip()
        activated = made.sudo("activate jeanne@example.org")
        assert activated.code == 0, activated
        letter = letters(made.mail_server)[-1]
        assert letter.identifier == identifier
        assert letter.password not in activated.out + activated.err
        assert "accepted" in made.sudo(f"client show {identifier}").out
        assert identifier in made.sudo("client list --search jeanne").out
        assert made.sudo(f"client unblock {identifier}").code == 0
        explained = made.types(f"verify {identifier} --explain", letter.password.swapcase())
        assert (explained.code, "capitals_swapped" in explained.out) == (1, True), explained
        listed = made.server.egec("audit", "list", "--action", "credential", "--format", "json")
        assert {event["actor"] for event in json.loads(listed.out)} == {"egec (anna)"}


def test_the_operator_reads_and_writes_files_with_her_own_rights() -> None:
    with desk("operator") as made:
        imported = made.sudo("client import - --format json", typed="email,last_name\njeanne@example.org,Dupont\n")
        assert imported.code == 0, imported
        started = made.sudo("reissue start spring --from - --yes", typed="jeanne@example.org\n")
        assert started.code == 0, started
        assert [mail.recipient for mail in made.mail_server.accepted] == ["jeanne@example.org"]
        exported = made.sudo("client export > clients.csv")
        assert exported.code == 0, exported
        written = made.server.machine.must(["stat", "-c", "%U", f"{HOSTILE}/clients.csv"])
        assert written == "anna\n"
        # An abbreviated option would pass the rule; the program knows none.
        for option in ("--outpu x", "--out x", "--fro /etc/passwd", "--with-hash"):
            ended = made.sudo(f"client export {option}")
            assert (ended.code, "No such option" in ended.err) == (2, True), ended


def test_the_auditor_reads_the_record() -> None:
    with desk("auditor") as made:
        assert made.server.egec("client", "create", "jeanne@example.org").code == 0
        listed = made.sudo("audit list --format json")
        assert [event["action"] for event in json.loads(listed.out)] == ["client.create"], listed
        assert made.sudo("client show jeanne@example.org").code == 0
        assert made.sudo("reissue status").code == 0
