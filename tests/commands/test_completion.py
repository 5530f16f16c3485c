"""Completion in real shells, each at a terminal that types a line, Tab and Enter; words for bash, held against bash."""

import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egec_cli.audit.events import ACTIONS, OUTCOMES, EventRecord
from egec_cli.clients.lists import SortField
from egec_cli.clients.records import ClientStatus
from egec_cli.commands import completion
from egec_cli.settings.types import Database
from tests.conftest import Egec
from tests.programs import require_program

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
    "ops@paris/a=b",
    "tab $'\\n'",
]
SECONDS = 20.0


def require(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"completion in {shell}, which is not installed")


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an `egec` on the path that completes, or else writes its arguments to a file, which is returned."""
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
    checkout = str(Path(completion.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", checkout)
    return noted


class Terminal:
    """A shell at a terminal."""

    def __init__(self, shell: str, set_up: str) -> None:
        require(shell)
        self.seen = b""
        self._pid, self._leader = pty.fork()
        if self._pid == 0:
            os.execvp(shell, [shell, *SHELLS[shell], "-i"])
        os.set_blocking(self._leader, False)
        self.type(f"{set_up}; echo set-up'-done'\r")
        self.wait(lambda: b"set-up-done" in self.seen)
        self.wait(lambda: self.seen.rpartition(b"set-up-done")[2].count(b"ready> ") > 0)

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def wait(self, until: Callable[[], bool]) -> None:
        """Read the screen until a condition holds."""
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
def terminal(arguments: Path) -> Iterator[Callable[..., Terminal]]:
    opened = []

    def open_(shell: str, set_up: str = "") -> Terminal:
        opened.append(Terminal(shell, set_up or SET_UP[shell]))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def typed(terminal: Terminal, arguments: Path, line: str) -> list[str]:
    """Type `egec`, a line and Enter, and return the arguments that `egec` received."""
    arguments.unlink(missing_ok=True)
    terminal.type(f"egec {line}\r")
    terminal.wait(arguments.exists)
    return arguments.read_text().split("\0")[:-1]


@pytest.fixture(scope="module")
def copies() -> list[bytes]:
    """Return a list for the content of the database with the runs, as soon as there is one."""
    return []


@pytest.fixture
def runs(egec: Egec, tmp_path: Path, copies: list[bytes]) -> list[str]:
    """Make a database with a run of each hostile name; the commands run for the first test, the others get a copy."""
    egec("client", "create", "jeanne@example.org")
    [file] = tmp_path.rglob("egec.db")
    if copies:
        file.write_bytes(copies[0])
    else:
        for name in HOSTILE:
            assert egec("reissue", "start", name, "--all", "--yes").code == 0, name
        assert [path.name for path in file.parent.iterdir() if path.name.startswith("egec.db")] == ["egec.db"]
        copies.append(file.read_bytes())
    return HOSTILE


def escaped(text: str) -> str:
    return completion.quote_word(text)


def in_single(text: str) -> str:
    return f"'{text}"


def in_double(text: str) -> str:
    return f'"{text}'


@pytest.mark.parametrize(
    ("shell", "begin"),
    [*(("bash", begin) for begin in (escaped, in_single, in_double)), ("zsh", escaped), ("fish", in_single)],
)
def test_the_name_of_a_run_is_completed_exactly_and_never_executed(
    arguments: Path,
    terminal: Callable[..., Terminal],
    runs: list[str],
    shell: str,
    begin: Callable[[str], str],
    tmp_path: Path,
) -> None:
    opened = terminal(shell)
    for name in runs:
        prefix = name[:2]
        if begin is in_double and prefix == "!!":
            # There, bash and zsh always expand it from their history.
            continue
        line = f"reissue resume {begin(prefix)}\t"
        assert typed(opened, arguments, line) == ["reissue", "resume", name], opened.seen.decode()
    assert not list(tmp_path.rglob("executed"))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_is_completed_also_after_a_character_that_splits_words(
    arguments: Path, terminal: Callable[..., Terminal], runs: list[str], shell: str
) -> None:
    opened = terminal(shell)
    name = next(one for one in runs if one.startswith("wet:"))
    for prefix in ("wet:", "wet:d", "wet:dry=", "wet:dry=c", "wet\\:dry", 'wet:"d', "wet':d"):
        assert typed(opened, arguments, f"reissue status {prefix}\t") == ["reissue", "status", name], prefix
    for prefix in ("op", "ops@", "ops@p", "ops@paris/a=", "'ops@p"):
        assert typed(opened, arguments, f"reissue status {prefix}\t") == ["reissue", "status", "ops@paris/a=b"], prefix


@pytest.mark.parametrize("shell", SHELLS)
def test_words_are_completed_whatever_precedes_them(
    arguments: Path, terminal: Callable[..., Terminal], shell: str, tmp_path: Path
) -> None:
    opened = terminal(shell)
    (tmp_path / "clients of may.csv").touch()
    for line, expected in {
        "doc\t": ["doctor"],
        "--qui\tcli\tli\t": ["--quiet", "client", "list"],
        "client list --format jsonl --sta\tact\t": ["client", "list", "--format", "jsonl", "--status", "active"],
        "client list --format=cs\t": ["client", "list", "--format=csv"],
        "client update x --language f\t": ["client", "update", "x", "--language", "fr"],
        "client list --fields ident\t": ["client", "list", "--fields", "identifier"],
        "client list --fields identifier,em\t": ["client", "list", "--fields", "identifier,email"],
        "reissue start spring --from cli\t": ["reissue", "start", "spring", "--from", "clients of may.csv"],
        "client import cli\t": ["client", "import", "clients of may.csv"],
        "client list --sort cre\t": ["client", "list", "--sort", "created_at"],
        "client list --sort -last_n\t": ["client", "list", "--sort", "-last_name"],
        "audit list --action client.er\t": ["audit", "list", "--action", "client.erase"],
        "audit list --outcome ref\t": ["audit", "list", "--outcome", "refused"],
        "stats --format op\t": ["stats", "--format", "openmetrics"],
    }.items():
        assert typed(opened, arguments, line) == expected, opened.seen.decode()


def candidates_of(shell: str, *words: str) -> list[str]:
    """Return the answer of `egec` to the script of a shell; the process succeeds and prints nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "egec_cli", "completion", shell, "--", *words], capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return [line.partition("\t")[0] for line in done.stdout.decode().splitlines()]


def test_hidden_or_unknown_words_are_not_candidates() -> None:
    assert "--identifier" not in candidates_of("fish", "client", "update", "--")
    assert candidates_of("fish", "nothing", "") == ["words"]
    assert candidates_of("fish", "client", "list", "--nothing=") == ["words"]
    assert candidates_of("fish", "client", "show", "x", "y") == ["words"]


def test_values_of_options_are_candidates() -> None:
    assert candidates_of("fish", "client", "list", "--status", "")[1:] == list(ClientStatus)
    assert candidates_of("fish", "client", "list", "--sort", "")[1:] == list(SortField)
    assert candidates_of("fish", "client", "export", "--sort=-")[1:] == [f"--sort=-{field}" for field in SortField]
    assert candidates_of("fish", "audit", "list", "--fields", "id,")[1:] == [
        f"id,{key}" for key in EventRecord._fields if key != "id"
    ]
    assert candidates_of("fish", "audit", "list", "--action", "login")[1:] == ["login", "login.explain"]
    assert candidates_of("fish", "audit", "list", "--outcome", "") == ["words", *OUTCOMES]


def test_the_actions_are_those_that_the_source_records() -> None:
    package = Path(completion.__file__).parents[1]
    sources = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    kinds = "|".join(ACTIONS)
    recorded = set(re.findall(rf'"((?:{kinds})\.[a-z]+)"', sources)) | {"login"}
    assert recorded == {f"{kind}.{act}".rstrip(".") for kind, acts in ACTIONS.items() for act in acts}


def test_options_are_not_candidates_after_two_dashes(egec: Egec) -> None:
    egec("client", "create", "jeanne@example.org")
    egec("reissue", "start", "--all", "--yes", "--", "-rf")
    assert candidates_of("fish", "reissue", "resume", "-r") == ["words"]
    assert candidates_of("fish", "reissue", "resume", "--r") == ["words", "--rate"]
    assert candidates_of("fish", "reissue", "resume", "--", "-r") == ["words", "-rf"]


def test_names_come_from_the_database_that_the_line_names(egec_process: Egec, tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("EGEC_DATABASE_URL=sqlite:///other.db\n")
    for line in ("init", "client create jeanne@example.org", "reissue start other --all --yes"):
        assert (
            subprocess.run([sys.executable, "-m", "egec_cli", "--env-file", "other.env", *line.split()]).returncode == 0
        )
    assert candidates_of("fish", "--env-file", "other.env", "reissue", "cancel", "") == ["words", "other"]
    assert candidates_of("zsh", "--env-file=other.env", "audit", "list", "--run", "") == ["words", "other"]


def test_names_of_runs_come_from_both_databases_the_latest_first(egec: Egec, location: Database) -> None:
    egec("client", "create", "jeanne@example.org")
    for name in ("first", "second"):
        egec("reissue", "start", name, "--all", "--yes")
    for act in ("resume", "status", "retry", "cancel"):
        assert candidates_of("fish", "reissue", act, "") == ["words", "second", "first"]


RESUME = ("reissue", "resume", "")


def has_no_names() -> bool:
    """Tell whether a script quickly gets no candidate, and at most a message to discard."""
    done = subprocess.run(
        [sys.executable, "-m", "egec_cli", "completion", "fish", "--", *RESUME],
        capture_output=True, text=True, timeout=5,
    )  # fmt: skip
    told = done.stderr.startswith("egec: ") and "Traceback" not in done.stderr and "internal error" not in done.stderr
    return done.stdout == "" and told


def test_without_a_database_no_name_is_found_and_no_database_is_created(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert has_no_names()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("url", ["sqlite:///nowhere/egec.db", "postgresql://127.0.0.1:1/egec", "nothing"])
def test_a_database_that_cannot_be_reached_has_no_names(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("EGEC_DATABASE_URL", url)
    assert has_no_names()


def test_a_database_that_is_locked_or_newer_or_damaged_has_no_names(
    egec: Egec, runs: list[str], tmp_path: Path
) -> None:
    [file] = tmp_path.rglob("egec.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        assert has_no_names()
    with closing(sqlite3.connect(file)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(schema_migration)")]
        values = ", ".join("'9999_later'" if name == "name" else name for name in columns if name != "id")
        names = ", ".join(name for name in columns if name != "id")
        connection.execute(f"INSERT INTO schema_migration ({names}) SELECT {values} FROM schema_migration LIMIT 1")
        connection.commit()
    assert has_no_names()
    file.write_bytes(b"no database" * 1000)
    assert has_no_names()


def files_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_tab_changes_nothing(runs: list[str], tmp_path: Path) -> None:
    before = files_of(tmp_path)
    assert len(candidates_of("fish", *RESUME)) == 1 + len(runs)
    assert files_of(tmp_path) == before


def test_a_name_with_terminal_controls_is_not_a_candidate(runs: list[str], tmp_path: Path) -> None:
    [file] = tmp_path.rglob("egec.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE reissue_run SET name = ? WHERE name = ?", ("a\x1b[31m\nb", runs[0]))
        connection.commit()
    assert candidates_of("fish", *RESUME)[1:] == runs[:0:-1]


def test_bash_is_asked_as_its_manual_says(arguments: Path, runs: list[str]) -> None:
    require("bash")
    line = "egec reissue resume spr"
    script = (
        f"source <(egec completion bash)\nCOMP_WORDS=({line}); COMP_CWORD=3\n"
        f"COMP_LINE='{line}'; COMP_POINT={len(line)}\n"
        "_egec egec spr resume; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("spring\\ 2026\n", "")


def test_fish_is_asked_as_its_manual_says(arguments: Path) -> None:
    require("fish")
    script = "egec completion fish | source; complete -C 'egec re'; complete -C 'egec client list --fo'"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=60)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["reissue", "--format"]


@pytest.mark.parametrize("shell", SHELLS)
def test_if_a_look_up_fails_the_shell_prints_nothing(
    arguments: Path, terminal: Callable[..., Terminal], shell: str
) -> None:
    opened = terminal(shell)
    assert typed(opened, arguments, "reissue resume sp\t") == ["reissue", "resume", "sp"]
    assert b"no database" not in opened.seen
    assert b"Traceback" not in opened.seen


def test_zsh_finds_the_script_among_its_functions(arguments: Path, terminal: Callable[..., Terminal]) -> None:
    folder = arguments.parent / "functions"
    folder.mkdir()
    set_up = f"egec completion zsh > {folder}/_egec; fpath=({folder} $fpath); autoload -U compinit; compinit -u -D"
    opened = terminal("zsh", f"{set_up}; PS1='ready> '")
    for _ in range(2):
        assert typed(opened, arguments, "client li\t") == ["client", "list"]


@pytest.mark.parametrize("words", [["@-"], [""], ["client"]])
def test_a_call_that_the_script_never_makes_is_a_usage_error(egec: Egec, words: list[str]) -> None:
    assert egec("completion", "bash", *words).code == 2


def test_without_a_shell_the_choices_are_named_in_one_line(egec: Egec, egec_process: Egec) -> None:
    assert egec("completion") == (
        2,
        "",
        "egec: Missing argument 'bash|zsh|fish'. Choose from: bash, zsh, fish\n      Type `egec completion --help`.\n",
    )
    french = egec_process("completion", env={"LANG": "fr_FR.UTF-8"}).err.splitlines()[0]
    assert french.endswith("argument 'bash|zsh|fish'. Choisissez parmi\u00a0: bash, zsh, fish")


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "), max_size=20)
HARD = st.text("a b'\"\\$`!~(){}[]*?;&|<>#=:^%é", max_size=12)


def as_typed(text: str, quote: str) -> str:
    """Return a whole word as it stands in a line behind a Tab."""
    opened = quote + completion.quote_word(text, quote)
    return opened if opened.endswith(quote) and len(opened) > 1 else opened + quote


def as_bash_reads(words: list[str]) -> list[str]:
    done = subprocess.run(
        [require_program("bash"), "--norc", "-c", f"printf '%s\\0' {' '.join(words)}"],
        capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=60)
@given(st.lists(TEXTS | HARD, min_size=1, max_size=12))
def test_bash_reads_a_quoted_word_as_the_original(texts: list[str]) -> None:
    for quote in ("", "'", '"'):
        wanted = [text for text in texts if text or quote]
        if wanted:
            assert as_bash_reads([as_typed(text, quote) for text in wanted]) == wanted


@given(TEXTS | HARD)
def test_a_quoted_word_is_parsed_as_the_original(text: str) -> None:
    for quote in ("", "'", '"'):
        assert completion.parse_word(as_typed(text, quote)) == (text, "", "")


@given(st.text("ab'\"\\ $`", max_size=12))
def test_a_word_is_parsed_as_bash_parses_it(raw: str) -> None:
    read = completion.parse_word(raw)
    if not read.quote and not raw.endswith("\\") and "$" not in raw and "`" not in raw and " " not in raw and raw:
        assert as_bash_reads([f"x{raw}"]) == [f"x{read.text}"]


def test_the_text_before_an_open_quotation_mark_is_known() -> None:
    assert completion.parse_word("'my r") == ("my r", "'", "")
    assert completion.parse_word("my' r") == ("my r", "'", "my")
    assert completion.parse_word("a'b'\"c\\\"d") == ('abc"d', '"', "ab")
    assert completion.parse_word("a\\ b") == ("a b", "", "")
    assert completion.parse_word("a\\") == ("a", "", "")
