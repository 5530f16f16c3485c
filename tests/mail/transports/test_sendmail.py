"""Mail passed to a program: real scripts in place of sendmail, with every exit."""

import os
import resource
import time
from binascii import b2a_qp
from collections.abc import Callable
from pathlib import Path

import pytest

from egec_cli.errors import ExitCode
from egec_cli.mail.transports.interface import Cause, DeliveryRefused, DeliveryUnknown
from tests.activations import letter
from tests.conftest import Egec
from tests.mail.conftest import CONTENT, End, TransportOf, end_of_delivery, mail_to

# Writes its arguments and input beside itself, like a queue.
TAKES_THE_MAIL = """
for argument do printf '%s\\n' "$argument"; done > "$0.arguments"
cat > "$0.mail"
"""

Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Return a function that makes a program from shell commands."""

    def make(lines: str) -> Path:
        path = tmp_path / "sendmail"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return path

    return make


def test_a_program_that_ends_with_0_has_accepted_the_mail(program: Program, transport_of: TransportOf) -> None:
    path = program(TAKES_THE_MAIL)
    reply = transport_of(f"sendmail:{path}").deliver(mail_to())
    assert reply.text == f"accepted by {path}"
    assert Path(f"{path}.mail").read_bytes() == CONTENT.replace(b"\r\n", b"\n")
    assert Path(f"{path}.arguments").read_text().splitlines() == [
        "-i", "-f", "ne-pas-repondre@egec.pro", "--", "jeanne@example.org"
    ]  # fmt: skip


def test_the_program_runs_once_for_each_mail_and_prepare_runs_nothing(
    program: Program, transport_of: TransportOf
) -> None:
    path = program('cat > "$(mktemp "$0.XXXXXX")"')
    transport = transport_of(f"sendmail:{path}")
    transport.connect()
    assert list(path.parent.glob("sendmail.*")) == []
    assert [end_of_delivery(transport, mail_to()) for _ in range(3)] == [End.ACCEPTED] * 3
    assert len(list(path.parent.glob("sendmail.*"))) == 3


def test_a_signal_to_the_terminal_does_not_reach_the_program(program: Program, transport_of: TransportOf) -> None:
    path = program('cat > /dev/null; cut -d" " -f6 /proc/$$/stat > "$0.session"')
    assert end_of_delivery(transport_of(f"sendmail:{path}"), mail_to()) is End.ACCEPTED
    assert int(Path(f"{path}.session").read_text()) != os.getsid(0)


@pytest.mark.parametrize("recipient", ["-oX@example.org", "--@example.org", "-bp@example.org", "$(id)`id`@example.org"])
def test_an_address_is_never_an_option_or_a_command(
    recipient: str, program: Program, transport_of: TransportOf
) -> None:
    # getopts parses options as sendmail does; the rest are recipients.
    path = program(
        'while getopts "if:o:b:" option; do echo "option $option"; done > "$0.options"\n'
        'shift $((OPTIND - 1)); printf "%s\\n" "$@" > "$0.recipients"; cat > /dev/null'
    )
    assert end_of_delivery(transport_of(f"sendmail:{path}"), mail_to(recipient)) == End.ACCEPTED
    assert Path(f"{path}.options").read_text() == "option i\noption f\n"
    assert Path(f"{path}.recipients").read_text() == f"{recipient}\n"


def test_an_address_beyond_ascii_reaches_the_program_as_utf_8(program: Program, transport_of: TransportOf) -> None:
    path = program(TAKES_THE_MAIL)
    assert end_of_delivery(transport_of(f"sendmail:{path}"), mail_to("jérôme@example.org")) == End.ACCEPTED
    assert Path(f"{path}.arguments").read_bytes().endswith("\njérôme@example.org\n".encode())


def test_a_line_with_a_single_dot_does_not_end_the_mail(program: Program, transport_of: TransportOf) -> None:
    path = program(TAKES_THE_MAIL)
    content = CONTENT + b".\r\nafter the dot\r\n..\r\n"
    transport_of(f"sendmail:{path}").deliver(mail_to(content=content))
    assert Path(f"{path}.mail").read_bytes() == content.replace(b"\r\n", b"\n")
    assert "-i" in Path(f"{path}.arguments").read_text().splitlines()


@pytest.mark.parametrize(
    ("code", "exit_code", "cause"),
    [
        (64, ExitCode.CONFIGURATION, Cause.BLOCKED),
        (65, ExitCode.INVALID_INPUT, Cause.RECIPIENT),
        (67, ExitCode.INVALID_INPUT, Cause.RECIPIENT),
        (68, ExitCode.INVALID_INPUT, Cause.RECIPIENT),
        (69, ExitCode.TEMPORARY_FAILURE, Cause.UNCLEAR),
        (77, ExitCode.CONFIGURATION, Cause.BLOCKED),
        (78, ExitCode.CONFIGURATION, Cause.BLOCKED),
        (127, ExitCode.CONFIGURATION, Cause.BLOCKED),
    ],
)
def test_an_exit_code_of_before_the_mail_was_taken_is_a_refusal_for_its_reason(
    code: int, exit_code: ExitCode, cause: Cause, program: Program, transport_of: TransportOf
) -> None:
    path = program(f"cat > /dev/null; echo 'no, by the way' >&2; exit {code}")
    with pytest.raises(DeliveryRefused, match="no, by the way") as refusal:
        transport_of(f"sendmail:{path}").deliver(mail_to())
    assert (refusal.value.error.exit_code, refusal.value.cause) == (exit_code, cause)
    assert refusal.value.reply == "no, by the way"


@pytest.mark.parametrize("code", [1, 70, 71, 74, 75])
def test_with_any_other_exit_code_the_mail_may_be_queued(
    code: int, program: Program, transport_of: TransportOf
) -> None:
    path = program(f"cat > /dev/null; echo 'queued, by the way' >&2; exit {code}")
    with pytest.raises(DeliveryUnknown, match=f"exit code {code}: queued, by the way"):
        transport_of(f"sendmail:{path}").deliver(mail_to())


def test_a_refusal_without_words_names_the_exit_code(program: Program, transport_of: TransportOf) -> None:
    with pytest.raises(DeliveryRefused, match="69") as refusal:
        transport_of(f"sendmail:{program('exit 69')}").deliver(mail_to())
    assert refusal.value.error.exit_code == ExitCode.TEMPORARY_FAILURE


def test_the_words_of_the_program_become_one_harmless_line(program: Program, transport_of: TransportOf) -> None:
    path = program(r"""cat > /dev/null; printf 'red \033[31m\r\nand\0more \342\200\256' >&2; exit 67""")
    with pytest.raises(DeliveryRefused) as refusal:
        transport_of(f"sendmail:{path}").deliver(mail_to())
    assert refusal.value.reply == "red [31m and more"


def test_a_program_that_leaves_the_mail_unread_is_believed(program: Program, transport_of: TransportOf) -> None:
    long_mail = mail_to(content=CONTENT + 20_000 * b"one line more\r\n")
    assert end_of_delivery(transport_of(f"sendmail:{program('exit 0')}"), long_mail) == End.ACCEPTED
    assert end_of_delivery(transport_of(f"sendmail:{program('exit 67')}"), long_mail) == ExitCode.INVALID_INPUT


@pytest.mark.parametrize("signal", ["KILL", "TERM", "SEGV"])
def test_a_program_that_is_killed_leaves_the_mail_in_doubt(
    signal: str, program: Program, transport_of: TransportOf
) -> None:
    path = program(f"{TAKES_THE_MAIL}\nkill -{signal} $$")
    with pytest.raises(DeliveryUnknown, match="killed by signal"):
        transport_of(f"sendmail:{path}").deliver(mail_to())


def test_a_program_that_hangs_is_ended_and_leaves_the_mail_in_doubt(
    program: Program, transport_of: TransportOf
) -> None:
    path = program(f'{TAKES_THE_MAIL}\necho $$ > "$0.pid"\nexec sleep 60')
    begin = time.monotonic()
    with pytest.raises(DeliveryUnknown, match=r"did not end within 0\.5 s"):
        transport_of(f"sendmail:{path}", 0.5).deliver(mail_to())
    assert 0.5 <= time.monotonic() - begin < 10
    pid = Path(f"{path}.pid").read_text().strip()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("lines", ["exec yes", "exec yes >&2", "while :; do printf .; sleep 0.02; done"])
def test_a_program_whose_output_does_not_end_is_ended_in_time_and_little_of_it_is_kept(
    lines: str, program: Program, transport_of: TransportOf
) -> None:
    path = program(lines)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(DeliveryUnknown, match=r"did not end within 0\.5 s"):
        transport_of(f"sendmail:{path}", 0.5).deliver(mail_to())
    assert 0.5 <= time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_program_that_leaves_another_behind_is_not_waited_for_any_longer(
    program: Program, transport_of: TransportOf
) -> None:
    path = program(f"{TAKES_THE_MAIL}\nsleep 8 &")
    began = time.monotonic()
    assert end_of_delivery(transport_of(f"sendmail:{path}"), mail_to()) == End.ACCEPTED
    assert time.monotonic() - began < 7
    assert Path(f"{path}.mail").read_bytes() == CONTENT.replace(b"\r\n", b"\n")


def test_a_password_quoted_in_an_answer_in_doubt_is_not_shown(
    egec: Egec, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program('tee "$0.mail" | grep -A2 "^Votre mot de passe" >&2; exit 75')
    egec("client", "create", "jeanne@example.org")
    monkeypatch.setenv("EGEC_MAIL_URL", f"sendmail:{path}")
    ended = egec("activate", "jeanne@example.org")
    assert ended.code == 75
    password = letter(Path(f"{path}.mail").read_bytes()).password
    for form in (password, b2a_qp(password.encode()).decode()):
        assert form not in ended.err


def test_a_program_that_is_missing_is_a_fault_of_the_configuration(tmp_path: Path, transport_of: TransportOf) -> None:
    path = tmp_path / "nothing-here"
    with pytest.raises(DeliveryRefused, match=f"{path} cannot be run: No such file") as refusal:
        transport_of(f"sendmail:{path}").deliver(mail_to())
    assert refusal.value.error.exit_code == ExitCode.CONFIGURATION


def test_a_program_that_is_not_executable_is_a_fault_of_the_configuration(
    program: Program, transport_of: TransportOf
) -> None:
    path = program(TAKES_THE_MAIL)
    path.chmod(0o644)
    with pytest.raises(DeliveryRefused, match="Permission denied") as refusal:
        transport_of(f"sendmail:{path}").deliver(mail_to())
    assert refusal.value.error.exit_code == ExitCode.CONFIGURATION
    assert not Path(f"{path}.mail").exists()


def test_a_file_that_cannot_be_executed_is_a_fault_of_the_configuration(
    tmp_path: Path, transport_of: TransportOf
) -> None:
    path = tmp_path / "sendmail"
    path.write_bytes(b"\0\1\2")
    path.chmod(0o755)
    assert end_of_delivery(transport_of(f"sendmail:{path}"), mail_to()) == ExitCode.CONFIGURATION
