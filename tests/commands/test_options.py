"""Questions are asked on standard error."""

import sys
from pathlib import Path

import pytest

from tests.conftest import Egec
from tests.readme.terminal import type_in


@pytest.mark.parametrize(("answer", "code", "out"), [("y", 0, "identifier,"), ("n", 1, ""), ("\x04", 130, "")])
def test_a_question_leaves_nothing_in_the_output(egec: Egec, tmp_path: Path, answer: str, code: int, out: str) -> None:
    egec("init")
    assert egec("client", "create", "jeanne@example.org").code == 0
    command = [sys.executable, "-m", "egec_cli", "client", "erase", "jeanne@example.org", "--format", "csv"]
    ended = type_in(command, folder=tmp_path, answers={"[y/N]:": answer})
    assert ended.code == code, ended
    assert ended.out.partition("line")[0] == out
