"""The progress line: what it shows of how much is done, and that it leaves all other output as it is."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from egec_cli.output import progress
from egec_cli.output.pager import pager
from egec_cli.output.progress import Progress, ProgressLine
from egec_cli.output.screen import text_width
from egec_cli.settings.types import LogStyle
from tests.conftest import Egec
from tests.manual.terminal import type_in
from tests.processes import command_of, egec_after, later_release, replace
from tests.screens.emulator import Seen, see

# A change after which even short commands show their progress.
IMMEDIATELY = replace(progress, "PATIENCE", 0.0)
LONG = "x" * 150


class _Watch:
    """A clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def line_after(seconds: float, done: int, options: dict[str, Any], *, is_over: bool = False) -> str:
    """Return the line of a work that was started with these options, after some seconds."""
    watch = _Watch()
    line = ProgressLine("importing", "rows", clock=watch, **options)
    watch.now += seconds
    line.done = done
    return line.describe(79, is_over=is_over)


@pytest.mark.parametrize(
    ("seconds", "done", "options", "shown"),
    [
        (10, 500_000, {"total": 1_000_000}, "50%  500,000/1,000,000 rows  50,000 rows/s  0:10 left"),
        # What an earlier command has done counts for the total, not for the rate.
        (10, 60, {"total": 100, "done": 40}, "60%  60/100 rows  2.0 rows/s  0:20 left"),
        # Of a file, only the part that was read is known.
        (10, 2_000, {"fraction": lambda: 0.25}, "25%  2,000 rows  200 rows/s  0:30 left"),
        (75, 7, {}, "importing  7 rows  0.1 rows/s  for 1:15"),
        # Nothing is said of a rate before anything is done.
        (5, 0, {"total": 100}, "0%  0/100 rows  for 0:05"),
        (3600 * 2, 1, {"total": 3}, "33%  1/3 rows  4:00:00 left"),
    ],
)
def test_the_line_has_the_numbers_the_rate_and_the_time_left(
    seconds: float, done: int, options: dict[str, Any], shown: str
) -> None:
    assert line_after(seconds, done, options).endswith(shown)


def test_the_last_line_has_all_of_the_total_the_average_rate_and_how_long_it_took() -> None:
    assert line_after(20, 1_000, {"total": 1_000}, is_over=True).endswith("1,000/1,000 rows  50 rows/s  in 0:20")
    assert line_after(20, 1_000, {"fraction": lambda: 0.9}, is_over=True).endswith(
        "100%  1,000 rows  50 rows/s  in 0:20"
    )


def test_the_last_line_of_a_run_that_was_paused_does_not_claim_to_be_complete() -> None:
    assert line_after(20, 40, {"total": 100}, is_over=True).endswith("40%  40/100 rows  2.0 rows/s  in 0:20")


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    watch = _Watch()
    line = ProgressLine("importing", "rows", total=10_000, clock=watch)
    for _ in range(60):
        watch.now += 1
        line.done += 100
        line.describe(79)
    for _ in range(30):
        watch.now += 1
        line.done += 10
        line.describe(79)
    assert "10 rows/s" in line.describe(79)


@pytest.mark.parametrize("columns", range(10, 140, 7))
@pytest.mark.parametrize("name", ["importing", "日本語" * 10, "weekly-" * 5])
def test_the_line_is_never_wider_than_the_terminal(columns: int, name: str) -> None:
    line = ProgressLine(name, "rows", total=1_000_000, done=123)
    line.detail = "12 failed"
    assert text_width(line.describe(columns)) <= columns
    assert columns < 60 or "123/1,000,000 rows" in line.describe(columns) or name != "importing"


def test_bytes_are_shown_in_megabytes_and_each_part_of_the_work_begins_anew() -> None:
    watch = _Watch()
    line = ProgressLine("copying", clock=watch)
    line.show_bytes("copying", 50_000_000, 200_000_000)
    watch.now += 10
    assert line.describe(79).endswith("25%  50/200 MB  5.0 MB/s  0:30 left")
    line.show_bytes("checking", 0, 0)
    watch.now += 3
    assert line.describe(79) == "checking  for 0:03"


# What a process shows at a terminal.


def write_while_the_line_is_shown() -> None:
    """Write to both streams, in parts and in long lines, while the progress is shown."""
    with ProgressLine("importing", "rows", total=20, patience=0.0) as line:
        for number in range(20):
            print(json.dumps({"number": number, "text": LONG}), file=sys.stderr, flush=True)
            print(f"row {number} ", end="", flush=True)
            time.sleep(0.02)
            print("ends")
            line.advance()


def show_for_a_moment() -> None:
    """Show the progress for less than the patience."""
    with ProgressLine("importing", "rows", total=1) as line:
        line.advance()


def show_a_run_that_was_resumed() -> None:
    """Show a run of 10 clients, of which 4 were done earlier and 2 are done now."""
    with Progress("weekly", 10, 4, 1, has_lines=True) as shown:
        time.sleep(progress.PATIENCE + 0.1)
        for _ in range(2):
            shown.advance(failed=False)
        shown.correct(10, 1)


def page_while_the_line_is_shown() -> None:
    """Write through a pager while the progress is shown."""
    with ProgressLine("importing", "rows", total=1, patience=0.0) as line:
        with pager():
            for number in range(10):
                print(f"row {number} ", end="", flush=True)
                time.sleep(0.05)
                print("ends", flush=True)
        line.advance()


def interrupt_itself() -> None:
    """Receive the signal of Ctrl-C while the progress is shown."""
    try:
        with ProgressLine("importing", "rows", total=9, patience=0.0) as line:
            line.done = 3
            time.sleep(0.1)
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)


def fail_with_the_line_shown() -> None:
    """Fail after some progress was shown."""
    with ProgressLine("importing", "rows", total=9, patience=0.0) as line:
        line.done = 3
        time.sleep(0.1)
        print("egec: no space left", file=sys.stderr)
        raise SystemExit(1)


def test_what_is_written_meanwhile_stays_whole_above_the_line() -> None:
    seen = see(command_of(write_while_the_line_is_shown))
    # A terminal of 80 columns breaks long lines, and nothing else does.
    text = "".join(line.ljust(80) if len(line) == 80 else f"{line}\n" for line in seen.lines)
    objects = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert objects == [{"number": number, "text": LONG} for number in range(20)]
    assert [line for line in seen.lines if line.startswith("row")] == [f"row {number} ends" for number in range(20)]
    assert [line for line in seen.lines if "importing" in line] == [seen.lines[-1]]
    assert "20/20 rows" in seen.lines[-1]


def test_nothing_is_drawn_over_the_pager() -> None:
    seen = see(command_of(page_while_the_line_is_shown), variables={"PAGER": "tee"})
    assert seen.lines[:-1] == [f"row {number} ends" for number in range(10)]
    assert seen.lines[-1].startswith("importing")


def test_an_interrupted_command_leaves_its_message_on_a_line_of_its_own() -> None:
    seen = see(command_of(interrupt_itself))
    assert "3/9 rows" in seen.lines[0]
    assert seen.lines[1] == "stopped"


def test_a_short_command_shows_nothing() -> None:
    assert see(command_of(show_for_a_moment)).lines == []


def test_a_run_that_was_resumed_ends_with_the_totals_of_the_run() -> None:
    seen = see(command_of(replace(progress, "PATIENCE", 0.1), show_a_run_that_was_resumed))
    assert len(seen.lines) == 1
    assert seen.lines[0].startswith("weekly")
    assert "100%  10/10 clients  1 failed" in seen.lines[0]


def test_after_a_failure_the_line_shows_how_far_the_work_was() -> None:
    seen = see(command_of(fail_with_the_line_shown))
    assert seen.lines[0] == "egec: no space left"
    assert "33%  3/9 rows" in seen.lines[1]


def test_a_terminal_that_cannot_clear_a_line_shows_none() -> None:
    seen = see(command_of(write_while_the_line_is_shown), variables={"TERM": "dumb"})
    assert not any("importing" in line for line in seen.lines)


@pytest.mark.usefixtures("server")
def test_results_reach_a_file_while_the_line_is_on_the_terminal(egec: Egec, tmp_path: Path) -> None:
    egec("init")
    addresses = [f"client-{number}@a-rather-long-name-of-a-host.example.org" for number in range(3)]
    for address in addresses:
        assert egec("client", "create", address).code == 0
    command = [*egec_after(IMMEDIATELY), "reissue", "start", "run", "--all", "--yes", "--format", "jsonl"]
    ended = type_in(command, folder=tmp_path, variables={"TERM": "xterm", "EGEC_LOG": LogStyle.JSON.value})
    assert ended.code == 0, ended
    assert sorted(json.loads(line)["email"] for line in ended.out.splitlines()) == addresses
    assert "3/3" in ended.err
    logged = [line.rpartition(progress.CLEAR)[2] for line in ended.err.split("\n") if '"action"' in line]
    assert len(logged) >= 3
    assert all(json.loads(line)["host"] for line in logged)


# Each command that can take long, on a small database.


@pytest.fixture
def world(egec: Egec, tmp_path: Path) -> Path:
    """Return a folder with a database of clients, and lists that name them."""
    rows = [f"{10**9 + number},c{number}@example.org" for number in range(300)]
    (tmp_path / "clients.csv").write_text("\n".join(["identifier,email", *rows]))
    (tmp_path / "ids.txt").write_text("".join(f"{10**9 + number}\n" for number in range(300)))
    (tmp_path / "logins.txt").write_text("".join(f"{10**9 + number},x\n" for number in range(20)))
    assert egec("client", "import", "clients.csv").code == 0
    assert egec("db", "backup", "backup.db").code == 0
    return tmp_path


def at_a_terminal(*arguments: str) -> Seen:
    variables = {name: value for name, value in os.environ.items() if name.startswith("EGEC_")}
    return see([*egec_after(IMMEDIATELY), *arguments], variables=variables)


COMMANDS: dict[tuple[str, ...], str] = {
    ("client", "import", "clients.csv"): "importing {bar}  100%  300 rows",
    ("client", "import", "clients.csv", "--dry-run"): "checking {bar}  100%  300 rows",
    ("client", "export", "--output", "all.csv"): "exporting {bar}  100%  300/300 clients",
    ("client", "export", "--output", "all.csv", "--limit", "7"): "exporting {bar}  100%  7/7 clients",
    ("client", "disable", "--from", "ids.txt", "--reason", "left", "--format", "count"): (
        "disabling {bar}  100%  300/300 clients"
    ),
    ("client", "enable", "--from", "ids.txt", "--format", "count"): "enabling {bar}  100%  300/300 clients",
    ("client", "unblock", "--from", "ids.txt", "--format", "count"): "unblocking {bar}  100%  300/300 clients",
    ("client", "erase", "--from", "ids.txt", "--yes", "--format", "count"): "erasing {bar}  100%  300/300 clients",
    ("client", "erase", "1000000000", "--yes"): "removing copies from the database file  in 0:0",
    ("db", "backup", "new.db"): "copying the database {bar}  100%  0/0 MB",
    ("db", "restore", "backup.db", "--yes"): "restoring the backup {bar}  100%  0/0 MB",
    ("verify", "--batch", "logins.txt"): "checking {bar}  100%  20/20 logins",
}


@pytest.mark.parametrize(("arguments", "shown"), COMMANDS.items(), ids=[" ".join(words) for words in COMMANDS])
@pytest.mark.usefixtures("world")
def test_a_long_command_shows_its_progress_and_ends_with_its_totals(arguments: tuple[str, ...], shown: str) -> None:
    seen = at_a_terminal(*arguments)
    assert seen.code in {0, 3}, seen.text
    begins, _, ends = shown.rpartition("{bar}")
    found = [line for line in seen.lines if line.startswith(begins) and ends in line]
    assert len(found) == 1, seen.text
    assert len(found[0]) < 80


def test_an_upgrade_shows_its_progress(world: Path) -> None:
    later = later_release(world / "migrations", "def up(migrator, db):\n    pass\n")
    variables = {name: value for name, value in os.environ.items() if name.startswith("EGEC_")}
    seen = see([*egec_after(IMMEDIATELY, later), "db", "upgrade"], variables=variables)
    assert seen.code == 0, seen.text
    assert seen.lines[0].startswith("upgrading the tables  in 0:0"), seen.text


@pytest.mark.parametrize(("arguments", "shown"), COMMANDS.items(), ids=[" ".join(words) for words in COMMANDS])
@pytest.mark.usefixtures("world")
def test_a_quiet_command_shows_no_progress(arguments: tuple[str, ...], shown: str) -> None:
    seen = at_a_terminal("--quiet", *arguments)
    assert not any(shown.partition(" ")[0] in line and "%" in line for line in seen.lines), seen.text


@pytest.mark.usefixtures("world")
def test_in_a_pipe_there_is_no_progress(egec: Egec) -> None:
    ended = egec("client", "import", "clients.csv", "--dry-run")
    assert ended.err.splitlines() == [
        "egec: reading clients.csv as CSV with commas, in utf-8", "egec: nothing was changed",
    ]  # fmt: skip


def test_a_slow_run_shows_its_mails_per_minute_and_names_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress("spring", 10, 4, 1, has_lines=True) as shown:
        now[0] = 40.0
        shown.advance(failed=False)
        now[0] = 40.5
        shown.advance(failed=True)
    assert capsys.readouterr().err.splitlines() == [
        "egec: spring: 5 of 10 done, 1 failed, 1.5/min, about 0:03:20 left",
        "egec: spring: 6 of 10 done, 2 failed, 3/min, about 0:01:21 left",
    ]


def test_a_run_that_may_wait_shows_the_least_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress("spring", 10, 4, 1, has_lines=True) as shown:
        shown.expect_waits()
        now[0] = 40.0
        shown.advance(failed=False)
    assert capsys.readouterr().err.splitlines()[0].endswith(", 1.5/min, at least 0:03:20 left")
    line = ProgressLine("spring", total=4, clock=lambda: now[0])
    line.is_least = True
    now[0] += 10
    line.advance()
    assert line.describe(79).endswith("25%  at least 0:30 left")


def test_a_command_that_did_nothing_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("spring", 10, 10, 1, has_lines=True):
        pass
    assert capsys.readouterr().err == ""
