"""The progress bar on a terminal leaves standard output to the data."""

import json
import sys
import time
from pathlib import Path

import pytest

from egec_cli.output import terminal
from tests.conftest import Egec
from tests.manual.terminal import type_in


@pytest.mark.usefixtures("server")
def test_results_reach_a_file_while_the_bar_is_on_the_terminal(egec: Egec, tmp_path: Path) -> None:
    egec("init")
    addresses = [f"client-{number}@a-rather-long-name-of-a-host.example.org" for number in range(3)]
    for address in addresses:
        assert egec("client", "create", address).code == 0
    command = [sys.executable, "-m", "egec_cli", "reissue", "start", "run", "--all", "--yes", "--format", "jsonl"]
    ended = type_in(command, folder=tmp_path)
    assert ended.code == 0, ended
    assert sorted(json.loads(line)["email"] for line in ended.out.splitlines()) == addresses
    assert "3/3" in ended.err
    assert "client-" not in ended.err


def test_a_slow_run_shows_its_mails_per_minute_and_names_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with terminal.Progress("spring", 10, 4, 1, has_lines=True) as progress:
        now[0] = 40.0
        progress.advance(failed=False)
        now[0] = 40.5
        progress.advance(failed=True)
    assert capsys.readouterr().err.splitlines() == [
        "egec: spring: 5 of 10 done, 1 failed, 1.5/min, about 0:03:20 left",
        "egec: spring: 6 of 10 done, 2 failed, 3/min, about 0:01:21 left",
    ]


def test_a_command_that_did_nothing_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.Progress("spring", 10, 10, 1, has_lines=True):
        pass
    assert capsys.readouterr().err == ""
