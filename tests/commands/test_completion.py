"""Completion in the shells themselves: each is run at a terminal, where a line is typed, and Tab, and Enter."""

import os
import pty
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from egec_cli.commands import bash_words, candidates
from tests.conftest import Egec

SHELLS = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}
SET_UP = {
    "bash": "source <(egec completion bash); PS1='ready> '",
    "zsh": "autoload -U compinit; compinit -u -D; source <(egec completion zsh); PS1='ready> '",
    "fish": "egec completion fish | source; function fish_prompt; printf 'ready> '; end",
}
HOSTILE = [
    "spring 2026",
    "summer $(touch executed) `touch executed` ${HOME} \\$(touch executed)",
    'it\'s "quoted"; touch executed & touch executed | touch executed > executed < /dev/null',
    "back\\slash\\",
    "~root/*?[a-z]{a,b}",
    "!! !$ ^a^b #no comment",
    "wet:dry=c :d =e @f %g",
    "été d\N{RIGHT SINGLE QUOTATION MARK}Œuvre 山田",
    "(touch executed)",
    "tab $'\\n'",
]
SECONDS = 20.0


def require(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"completion in {shell}, which is not installed")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an `egec` on the path that completes, and else notes its arguments in a file, which is returned."""
    noted = tmp_path / "arguments"
    program = tmp_path / "bin" / "egec"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = completion ] && exec {sys.executable} -m egec_cli "$@"\n'
        f"printf '%s\\0' \"$@\" > {tmp_path}/noting && mv {tmp_path}/noting {noted}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    checkout = str(Path(candidates.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", checkout)
    return noted


class Terminal:
    """A shell at a terminal."""

    def __init__(self, shell: str) -> None:
        require(shell)
        self.seen = b""
        self._pid, self._leader = pty.fork()
        if self._pid == 0:
            os.execvp(shell, [shell, *SHELLS[shell], "-i"])
        os.set_blocking(self._leader, False)
        self.type(f"{SET_UP[shell]}; echo set-up'-done'\r")
        self.wait(lambda: b"set-up-done" in self.seen)
        self.wait(lambda: self.seen.rpartition(b"set-up-done")[2].count(b"ready> ") > 0)

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def wait(self, until: Callable[[], bool]) -> None:
        """Read what is shown until something is so."""
        end = time.monotonic() + SECONDS
        while not until():
            assert time.monotonic() < end, self.seen.decode(errors="replace")
            try:
                self.seen += os.read(self._leader, 65536)
            except BlockingIOError:
                time.sleep(0.02)

    def close(self) -> None:
        os.close(self._leader)
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)


@pytest.fixture
def terminal(arguments: Path) -> Iterator[Callable[[str], Terminal]]:
    opened = []

    def open_(shell: str) -> Terminal:
        opened.append(Terminal(shell))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def typed(terminal: Terminal, arguments: Path, line: str) -> list[str]:
    """Type a line, `egec` before it and Enter behind it, and return the arguments that `egec` got."""
    arguments.unlink(missing_ok=True)
    terminal.type(f"egec {line}\r")
    terminal.wait(arguments.exists)
    return arguments.read_text().split("\0")[:-1]


@pytest.fixture
def runs(egec: Egec) -> list[str]:
    egec("client", "create", "jeanne@example.org")
    for name in HOSTILE:
        assert egec("reissue", "start", name, "--all", "--yes").code == 0, name
    return HOSTILE


def escaped(text: str) -> str:
    return bash_words.written(text)


def in_single(text: str) -> str:
    return f"'{text}"


def in_double(text: str) -> str:
    return f'"{text}'


@pytest.mark.parametrize("begin", [escaped, in_single, in_double])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_name_of_a_run_is_completed_to_the_letter_and_never_executed(
    arguments: Path,
    terminal: Callable[[str], Terminal],
    runs: list[str],
    shell: str,
    begin: Callable[[str], str],
    tmp_path: Path,
) -> None:
    opened = terminal(shell)
    for name in runs:
        begun = name[:2]
        if begin is in_double and begun == "!!":
            # There, bash and zsh take it for a word of their history whatever follows.
            continue
        line = f"reissue resume {begin(begun)}\t"
        assert typed(opened, arguments, line) == ["reissue", "resume", name], opened.seen.decode()
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_is_completed_also_behind_what_a_shell_parts_words_at(
    arguments: Path, terminal: Callable[[str], Terminal], runs: list[str], shell: str
) -> None:
    opened = terminal(shell)
    name = next(one for one in runs if one.startswith("wet:"))
    for begun in ("wet:", "wet:d", "wet:dry=", "wet:dry=c", "wet\\:dry", 'wet:"d', "wet':d"):
        assert typed(opened, arguments, f"reissue status {begun}\t") == ["reissue", "status", name], begun


@pytest.mark.parametrize("shell", SHELLS)
def test_words_are_completed_whatever_stands_before_them(
    arguments: Path, terminal: Callable[[str], Terminal], shell: str, tmp_path: Path
) -> None:
    opened = terminal(shell)
    (tmp_path / "clients of may.csv").touch()
    for line, expected in {
        "doc\t": ["doctor"],
        "--qui\tcli\tli\t": ["--quiet", "client", "list"],
        "client list --format jsonl --sta\tact\t": ["client", "list", "--format", "jsonl", "--status", "active"],
        "client list --format=c\t": ["client", "list", "--format=csv"],
        "client update x --language f\t": ["client", "update", "x", "--language", "fr"],
        "client list --fields ident\t": ["client", "list", "--fields", "identifier"],
        "client list --fields identifier,em\t": ["client", "list", "--fields", "identifier,email"],
        "reissue start spring --from cli\t": ["reissue", "start", "spring", "--from", "clients of may.csv"],
        "client import cli\t": ["client", "import", "clients of may.csv"],
    }.items():
        assert typed(opened, arguments, line) == expected, opened.seen.decode()
