"""Changes to child processes: they reach the program, and one without a target fails instead of changing nothing."""

import pickle
import subprocess
from functools import partial
from pathlib import Path

import pytest

from egec_cli import password
from egec_cli.store import database
from tests import children
from tests.processes import command_of, egec_after, hide_module, replace, run_with, wrap


def test_a_change_reaches_the_program_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The child imports none of these.
    for name in ("tests", "egec_cli", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported from the working folder')")
    ended = run_with(
        [replace(password, "generate_password", partial(children.make_known_password, "fG69a*6jH"))], "password"
    )
    assert (ended.code, ended.out) == (0, "fG69a*6jH\n"), ended


def test_a_missing_attribute_fails_where_the_change_is_made() -> None:
    for change in (replace, wrap):
        with pytest.raises(AttributeError, match="BUSY_TIMEOUTS"):
            change(database, "BUSY_TIMEOUTS", print)
    with pytest.raises(ModuleNotFoundError, match="psycopg9"):
        hide_module("psycopg9")


@pytest.mark.parametrize("change", [children.set_attribute, children.wrap_attribute])
@pytest.mark.parametrize(
    ("module", "reason"), [(database.__name__, "BUSY_TIMEOUTS"), ("egec_cli.moved", "No module named 'egec_cli.moved'")]
)
def test_a_missing_attribute_or_module_fails_in_the_child_too(
    change: "partial[object]", module: str, reason: str
) -> None:
    command = [*egec_after(partial(change, module, "BUSY_TIMEOUTS", print)), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr


def test_a_function_that_a_child_cannot_find_is_refused_at_once() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        command_of(lambda: None)
