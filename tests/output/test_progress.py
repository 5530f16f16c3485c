"""The progress bar on a terminal leaves standard output to the data."""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import Egec
from tests.readme.terminal import type_in


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
