"""Every example of the README is executed, here or by the test or script named in the mark above it."""

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.zone
import pytest

from egec_cli.clients.records import ClientStatus
from egec_cli.settings import load
from egec_cli.settings.types import Tls
from egec_cli.store.models import CredentialState
from tests.activations import letter
from tests.conftest import Ended
from tests.manual import office
from tests.manual.blocks import BLOCKS, CHECKOUT, TELLS_WHERE_TO_TURN, Block, prose
from tests.manual.dialogue import Dialogue
from tests.manual.machine import machine
from tests.manual.office import CLIENTS, Office
from tests.manual.server import INSTALL, STATE, Server
from tests.manual.terminal import type_in
from tests.programs import require_programs_in
from tests.smtp_server import Fault, MailServer
from tests.test_docs import commands

CI = (CHECKOUT / ".ci/run").read_text(encoding="utf-8")
EXECUTED_HERE = {"sh", "console", "cron", "dns"}
PICTURE = "text"
AFTER_THE_FIRST_COMMAND = "after the first command"
PAUL_IS_REFUSED = f"the mail server refuses {office.PAULS_EMAIL}"
AFTER_A_RUN = "after the run spring-2026"
# The run that such an example finds done.
THE_RUN = "egec reissue start spring-2026 --all --yes > /dev/null 2>&1"
# Marks of examples that are executed here.
SITUATIONS = {
    "", AFTER_THE_FIRST_COMMAND, PAUL_IS_REFUSED, AFTER_A_RUN, f"{AFTER_A_RUN}; {PAUL_IS_REFUSED}",
}  # fmt: skip
FIRST_COMMAND = next(block.text for block in BLOCKS if block.mark == "first command").rpartition("&& .venv/bin/")[2]


def executed_here(language: str) -> pytest.MarkDecorator:
    here = [block for block in BLOCKS if block.language == language and block.mark in SITUATIONS]
    return pytest.mark.parametrize("block", here, ids=str)


def inline_commands() -> list[str]:
    """Return the distinct egec commands in the README's sentences and tables."""
    found = re.findall(r"`(?:/opt/egec/bin/)?(egec [^`]+)`", prose().replace("\\|", "|"))
    return sorted({" ".join(one.split()) for one in found})


@functools.cache
def takers_of_blocks() -> set[str]:
    """Return the tests that execute blocks of the README."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").rglob("*.py"))
    return set(re.findall(r'executed_by\("([^"…]+)"\)', sources))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_executed_somewhere(block: Block) -> None:
    if block.elsewhere:
        assert (CHECKOUT / block.elsewhere).is_file(), f"{block}: missing test\n{TELLS_WHERE_TO_TURN}"
        assert block.elsewhere in takers_of_blocks(), f"{block}: nothing takes it\n{TELLS_WHERE_TO_TURN}"
    elif block.mark not in SITUATIONS:
        assert f"<!-- {block.mark} -->" in CI, f"{block}: .ci/run does not take it by its name\n{TELLS_WHERE_TO_TURN}"
    elif block.language == PICTURE:
        typed = re.findall(r"^ *(?:\$|sudo|\S*egec) .*", block.text, flags=re.MULTILINE)
        assert typed == [], f"{block}: a picture has no commands\n{TELLS_WHERE_TO_TURN}"
    else:
        assert block.language in EXECUTED_HERE, f"{block}: nothing executes it\n{TELLS_WHERE_TO_TURN}"


def test_the_picture_has_every_state_of_a_password() -> None:
    [picture] = [block for block in BLOCKS if block.language == PICTURE and block.document == "README.md"]
    states = {*CredentialState, ClientStatus.EXPIRED}
    assert {state for state in states if re.search(rf"\b{state}\b", picture.text)} == states
    assert f"{load.load_settings({}).unused_password_days} days" in picture.text


@pytest.fixture
def furnished(tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> Office:
    """Return the office for most examples."""
    monkeypatch.delenv("EGEC_MAIL_URL")
    return office.furnished(tmp_path, server.url)


@pytest.fixture
def stand_ins(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Return a function that replaces the servers and numbers of an example by real ones."""

    def with_stand_ins(text: str) -> str:
        if "smtp.example.org" in text:
            server = request.getfixturevalue("mail_server_with_login")
            text = text.replace("smtp://egec:secret@smtp.example.org:587", server.url)
        if "db.example.org" in text:
            text = text.replace(
                "postgresql://egec:secret@db.example.org/egec", f"'{request.getfixturevalue('postgresql')()}'"
            )
        return text.replace("--expect 48213", f"--expect {len(CLIENTS)}")

    return with_stand_ins


@pytest.fixture
def mail_server_with_login() -> Iterator[MailServer]:
    with MailServer(tls=Tls.STARTTLS, login=("egec", "secret")) as running:
        yield running


@executed_here("sh")
def test_a_shell_example_works(block: Block, furnished: Office, stand_ins: Callable[[str], str]) -> None:
    options = [] if block.is_script else ["-euo", "pipefail"]
    program = "sh" if block.is_script else "bash"
    require_programs_in(block.text, beside=[] if block.is_script else ["bash"])
    if block.mark == AFTER_A_RUN:
        assert Dialogue(furnished).type(THE_RUN).code == 0
    ended = type_in(
        [program, *options, "-c", stand_ins(block.text)],
        folder=furnished.folder,
        variables=furnished.variables,
        answers=furnished.answers,
    )
    # The tests hash cheaply, and the doctor warns of that.
    expected = 3 if block.text.splitlines()[-1].startswith("egec doctor") else 0
    assert ended.code == expected, f"{block} ends with {ended.code}:\n{ended.out}{ended.err}\n{TELLS_WHERE_TO_TURN}"


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({}, 0, ""),
        ({"EMAIL": "no address"}, 65, "wrong address: no address"),
        ({"EGEC_MAIL_URL": "smtp://127.0.0.1:1"}, 75, "temporary failure, will try again"),
        ({"EGEC_LANGUAGE": "de"}, 78, "call an operator"),
    ],
)
def test_the_onboarding_script_ends_with_the_exit_code_of_egec(
    furnished: Office, variables: dict[str, str], code: int, says: str
) -> None:
    [script] = [block for block in BLOCKS if block.is_script and "--if-missing" in block.text]
    ended = type_in(["sh", "-c", script.text], folder=furnished.folder, variables={**furnished.variables, **variables})
    assert ended.code == code, ended
    assert says in ended.err


@executed_here("console")
def test_a_dialogue_goes_as_it_is_shown(block: Block, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    require_programs_in(block.text, beside=["bash"])
    first = block.mark == AFTER_THE_FIRST_COMMAND
    where = office.bare(tmp_path) if first else request.getfixturevalue("furnished")
    if block.mark.endswith(PAUL_IS_REFUSED):
        server: MailServer = request.getfixturevalue("server")
        server.fail_always(Fault.RCPT_550_USER_UNKNOWN, recipient=office.PAULS_EMAIL)
    dialogue = Dialogue(where)
    if first:
        assert dialogue.type(FIRST_COMMAND).code == 0
    if block.mark.startswith(AFTER_A_RUN):
        assert dialogue.type(THE_RUN).code == 3
    for typed in block.text.removeprefix("$ ").split("\n$ "):
        command, *shown = typed.rstrip("\n").split("\n")
        ended = dialogue.type(command)
        dialogue.require(shown, ended)
        if first and "activate" in command:
            where.answers["Password:"] = password_in(ended)


def password_in(ended: Ended) -> str:
    """Return the password in the mail whose path was printed."""
    return letter(Path(ended.err.split()[-1]).read_bytes()).password


@pytest.fixture
def server_at_work(mail_server_with_login: MailServer) -> Iterator[Server]:
    """Return a server whose account has the secret, and a new client."""
    require_programs_in(INSTALL.text)
    with machine() as made:
        server = Server.installed(made, mail_server_with_login)
        server.may_be_worked_at()
        assert server.egec("client", "create", "jeanne@example.org").code == 0
        yield server


@executed_here("cron")
def test_cron_runs_the_line_as_the_account_of_egec(block: Block, server_at_work: Server) -> None:
    for line in block.text.splitlines():
        timed = re.fullmatch(r"(?:[0-9*/,-]+ +){5}(.+)", line)
        assert timed, f"{block}: {line!r} is not valid in a user's crontab"
        assert not re.search(r"(?<!\\)%", timed[1]), f"{block}: cron ends the command at a % without a backslash"
        command = timed[1].replace("\\%", "%")
        for maildir in re.findall(r"mail bounces (/\S+)", command):
            folders = [f"{maildir}/{name}" for name in ("", "new", "cur", "tmp")]
            server_at_work.machine.must(["install", "-d", "-o", "egec", "-g", "egec", *folders])
        ended = server_at_work.machine.run(
            ["sh", "-c", command],
            user="egec",
            variables={"HOME": STATE, "LOGNAME": "egec", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"},
            folder=STATE,
        )
        assert ended.code == 0, f"{block}: {ended}"


@executed_here("dns")
def test_records_are_as_a_name_server_reads_them(block: Block) -> None:
    zone = dns.zone.from_text(
        f"$TTL 1h\n{block.text}", origin=".", relativize=False, check_origin=False, allow_include=False
    )
    assert len(list(zone.iterate_rdatas("TXT"))) == len(block.text.splitlines())


def test_the_tests_that_show_a_promise_are_there() -> None:
    named = set(re.findall(r"tests/[\w/]+\.py", prose()))
    assert [name for name in sorted(named) if not (CHECKOUT / name).is_file()] == []


@pytest.mark.parametrize("typed", inline_commands())
def test_a_command_within_a_sentence_has_the_options_that_it_is_given(typed: str) -> None:
    words = typed.split()[1:]
    while words and words[0].startswith("--"):
        assert words[0] in {"--quiet", "--verbose", "--version", "--help", "--env-file"}
        words = words[2 if words[0] == "--env-file" else 1 :]
    if not words or words[0] == "COMMAND":
        return
    known = commands()
    path = next((path for n in (2, 1) if (path := " ".join(["egec", *words[:n]])) in known), None)
    if path is None:
        assert " ".join(["egec", *words]) in {" ".join(one.split()[:2]) for one in known}, "unknown command"
        return
    options = {name for parameter in known[path].params for name in (*parameter.opts, *parameter.secondary_opts)}  # type: ignore[attr-defined]
    own = words[: words.index("--")] if "--" in words else words
    given = {word.partition("=")[0] for word in own if word.startswith("-") and word != "-"}
    assert given <= options | {"--help"}
