"""A part of the fuzz (complete: `python -m tests.fuzz`), and the faults that it must detect."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import cases, execution
from tests.fuzz.execution import Ended

CHECKOUT = Path(__file__).parent.parent
PORTS = (1, 2, 3, 4)


@pytest.mark.timeout(240)
def test_generated_commands_end_with_documented_codes_without_hanging_or_a_traceback() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "1", "--first", "0", "--cases", "80", "--jobs", "2"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80 cases" in done.stdout


def test_a_case_depends_on_its_seed_and_number_alone() -> None:
    assert cases.make(1, 7, PORTS) == cases.make(1, 7, PORTS)
    assert cases.make(1, 7, PORTS) != cases.make(2, 7, PORTS)


def test_the_cases_run_every_command_and_give_every_option() -> None:
    lines = [f"{' '.join(cases.make(1, number, PORTS).arguments)} " for number in range(3_000)]
    for command in cases.COMMANDS:
        own = [line for line in lines if f"{command.path} " in line]
        assert own, command.path
        for option in command.options:
            assert any(name in line for name in option.names for line in own), (command.path, option.names)


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (Ended(None, b"", b"", 60.0), "hangs"),
        (Ended(70, b"", b"x", 0.1), "ends with 70"),
        (Ended(-11, b"", b"", 0.1), "ends with -11"),
        (Ended(5, b"", b"x", 0.1), "ends with 5"),
        (Ended(0, b"", b"Traceback (most recent call last):", 0.1), "Traceback"),
        (Ended(65, b"", b"", 0.1), "does not say why"),
    ],
)
def test_the_fuzz_sees_what_is_wrong(ended: Ended, fault: str) -> None:
    case = cases.make(1, 7, PORTS)._replace(streams=("file", "file", "file"))
    assert any(fault in one for one in execution.faults(case, ended))
    assert execution.faults(case, Ended(0, b"", b"", 0.1)) == []


def test_invalid_json_is_detected() -> None:
    case = cases.make(1, 7, PORTS)._replace(arguments=["client", "list", "--format", "json"])
    assert execution.faults(case, Ended(0, b"[]", b"", 0.1)) == []
    assert execution.faults(case, Ended(0, b"[", b"", 0.1)) != []
