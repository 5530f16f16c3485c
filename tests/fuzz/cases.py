"""The cases: a command line, an environment, settings, what is typed, and how the streams are connected."""

from random import Random
from typing import NamedTuple

from egec_cli.output.formats import OutputFormat
from egec_cli.settings.schema import SETTINGS
from tests.fuzz import files, values
from tests.reference.command_tree import Described, Parameter, commands, describe_root

COMMANDS = tuple(commands())
ROOT = describe_root()
WRITTEN = {"--output", "--rejects", "--html", "--eml", "db backup"}
# What the database is: the usual one, none, an empty one, or one that is broken somehow.
DATABASES = (*["clients"] * 12, "none", "empty", "damaged", "damaged", "cut off", "no table", "noise", "read-only")
STREAMS = ("file", "file", "file", "file", "terminal", "closed")
ZONES = ("UTC", "Europe/Paris", "XXX24", "", ":nowhere", "AAA-99", "\udcff", "EST5EDT,M3.2.0,M11.1.0", "x" * 500)
FIELDS = (
    "identifier",
    "email",
    "civility",
    "last_name",
    "status",
    "at",
    "action",
    "outcome",
    "check",
    "result",
    "nothing",
    "",
)


class Case(NamedTuple):
    """A case.

    Attributes:
        seed, number: what it is made from.
        arguments: behind `egec`.
        environment: the whole of it; without HOME and the like where the case leaves them out.
        settings_files: content of the settings files by name; None is a pipe without a writer.
        has_templates: whether there is a folder `templates`.
        database: one of DATABASES.
        typed: what standard input has.
        streams: how the three standard streams are connected.
        answers: what is typed at a terminal, one at a time.
    """

    seed: int
    number: int
    arguments: list[str]
    environment: dict[str, str]
    settings_files: dict[str, bytes | None]
    has_templates: bool
    database: str
    typed: bytes
    streams: tuple[str, str, str]
    answers: list[bytes]

    @property
    def random(self) -> Random:
        """The source for the content of its files."""
        return Random(f"{self.seed} {self.number} files")


def make(seed: int, number: int, servers: tuple[int, ...]) -> Case:
    """Make a case.

    Args:
        seed: of the series.
        number: of the case.
        servers: the ports of mail servers on the loopback address: one that works and others that fail.
    """
    random = Random(f"{seed} {number}")
    environment = _environment(random)
    settings_files: dict[str, bytes | None] = {}
    given = _settings(random, servers)
    if random.random() < 0.3:
        written = {name: given.pop(name) for name in list(given) if random.random() < 0.7}
        settings_files[random.choice([".env", "other.env", "config/egec/egec.env"])] = files.settings_file(
            random, written
        )
        if random.random() < 0.02:
            settings_files[".env"] = None
    for name in list(given):
        if random.random() < 0.05:
            settings_files[f"secret-{name}"] = (
                given[name].encode(errors="surrogateescape") if random.random() < 0.9 else None
            )
            given[f"{name}_FILE"] = f"secret-{name}"
            del given[name]
    environment |= {name: value for name, value in given.items() if "\0" not in value}
    streams = ("file", "file", "file")
    if random.random() < 0.3:
        streams = (random.choice(STREAMS), random.choice(STREAMS), random.choice(STREAMS))
    typed = random.choice([files.table, files.logins, files.names, files.objects])(random)
    return Case(
        seed=seed,
        number=number,
        arguments=[word.replace("\0", "") for word in _arguments(random)],
        environment=environment,
        settings_files=settings_files,
        has_templates="EGEC_TEMPLATES" in given,
        database=random.choice(DATABASES),
        typed=typed,
        streams=streams,
        answers=[
            random.choice([b"y\n", b"n\n", b"\n", b"secret\n", b"\xff\n", b"\x04", b"\x03", b"jeanne@example.org\n"])
            for _ in range(3)
        ],
    )


def _environment(random: Random) -> dict[str, str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": ".",
        "XDG_DATA_HOME": "data",
        "XDG_CONFIG_HOME": "config",
        "LANG": "C.UTF-8",
    }
    environment["EGEC_BCRYPT_COST"] = "4"
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "PATH", "LANG"):
        if random.random() < 0.03:
            del environment[name]
        elif random.random() < 0.03:
            environment[name] = random.choice(["", "\udcff", "nowhere", "noise", "x" * 5_000])
    rare = {
        "LC_ALL": ["C", "POSIX", "fr_FR.UTF-8", "nowhere"],
        "LANGUAGE": ["fr", "en", "xx", "\udcff"],
        "TZ": list(ZONES),
        "TERM": ["dumb", "xterm", "", "nothing"],
        "NO_COLOR": ["1", ""],
        "COLUMNS": ["0", "1", "abc", "-5", "99999999", "40"],
        "LINES": ["0", "abc"],
        "FORCE_COLOR": ["1"],
        "EGEC_ACTOR": ["jeanne", *values.NASTY],
        "EGEC_LOG": ["text", "json", "x"],
        "EGEC_ENV_FILE": ["other.env", *values.FILES],
        "SUDO_USER": ["jeanne", "\udcff"],
        "PAM_USER": [*values.IDENTIFIERS, "\udcff"],
        "PAM_RHOST": ["::1", "\udcff"],
        "CREDENTIALS_DIRECTORY": ["folder"],
        "SOURCE_DATE_EPOCH": ["x"],
        "EGEC_MAIL_RAT": ["1"],
    }
    for name, choices in rare.items():
        if random.random() < 0.05:
            environment[name] = random.choice(choices)
    return {name: value.replace("\0", "") for name, value in environment.items()}


def _settings(random: Random, servers: tuple[int, ...]) -> dict[str, str]:
    found = {"EGEC_DATABASE_URL": "sqlite:///egec.db", "EGEC_MAIL_TIMEOUT": "1"}
    found["EGEC_MAIL_URL"] = random.choice(
        ["maildir:mail", "maildir:mail", "sendmail:program", f"smtp://127.0.0.1:{servers[0]}"]
    )
    if random.random() < 0.4:
        for setting in random.sample(SETTINGS, random.randrange(1, 4)):
            found[setting.name] = _setting(random, setting.name, setting.example, servers)
    if random.random() < 0.9:
        # A high cost is valid, but slow.
        found.pop("EGEC_BCRYPT_COST", None)
    return found


def _setting(random: Random, name: str, example: str, servers: tuple[int, ...]) -> str:
    if name.endswith("_URL") and name != "EGEC_APP_URL":
        return values.url(random, servers, mail="MAIL" in name)
    if name == "EGEC_TEMPLATES":
        return random.choice(["templates", "templates", *values.FILES])
    if name == "EGEC_BCRYPT_COST":
        return random.choice(["3", "4", "5", "17", "abc", "", "-1"])
    if name == "EGEC_MAIL_TIMEOUT":
        return random.choice(["1", "0", "-1", "nan", "inf", "0.5", "abc", ""])
    return values.likely(random, lambda it: it.choice([example, *values.NUMBERS, values.email(it)]), 0.6)


def _arguments(random: Random) -> list[str]:
    command = random.choice(COMMANDS)
    words: list[str] = []
    for option in ROOT.options:
        if random.random() < 0.04:
            words += _option(random, option, command)
    words += command.path.split()
    given: list[list[str]] = []
    for option in command.options:
        share = 0.9 if option.is_required else 0.5 if option.names[0] in {"--yes", "--all"} else 0.2
        if random.random() < share:
            given.append(_option(random, option, command))
    for argument in command.arguments:
        if random.random() < 0.9:
            given.append([_value(random, argument, command)])
    if random.random() < 0.1:
        given.append(
            [
                random.choice(
                    [
                        "--help",
                        "--nothing",
                        "-x",
                        "--",
                        "--form",
                        "--format",
                        values.nasty(random),
                        "--yes",
                        "--version",
                    ]
                )
            ]
        )
    if random.random() < 0.5:
        random.shuffle(given)
    words += [word for group in given for word in group]
    if random.random() < 0.03:
        random.shuffle(words)
    if command.path == "verify" and random.random() < 0.3:
        words += ["--", random.choice(["true", "false", "nowhere", "", "\udcff"])]
    return words


def _option(random: Random, option: Parameter, command: Described) -> list[str]:
    name = random.choice(option.names)
    if not option.value:
        return [name] if random.random() < 0.98 else [f"{name}=x"]
    value = _value(random, option, command)
    return [f"{name}={value}"] if random.random() < 0.4 else [name, value]


def _value(random: Random, parameter: Parameter, command: Described) -> str:
    kind = parameter.value
    if kind == "FORMAT":
        return values.likely(random, lambda it: it.choice([*OutputFormat, *OutputFormat, "htpasswd"]), 0.95)
    if "FILE" in kind or "MAILDIR" in kind:
        return values.file(random, written=bool(WRITTEN & {*parameter.names, command.path}))
    if "CLIENT" in kind:
        return values.client(random)
    if "DATE" in kind or ("AGE" in kind and "LANGUAGE" not in kind):
        return values.date(random)
    if kind in {"N", "ID"}:
        return values.number(random)
    if "|" in kind:
        return values.likely(random, lambda it: it.choice(kind.split("|")), 0.9)
    if "FIELDS" in kind:
        return values.likely(random, lambda it: ",".join(it.choices(FIELDS, k=it.randrange(1, 4))), 0.85)
    if kind in {"EMAIL", "ADDRESS"}:
        return values.email(random)
    if kind == "IDENTIFIER":
        return values.likely(random, lambda it: it.choice(values.IDENTIFIERS))
    if kind == "NAME" and command.path.startswith("reissue"):
        return values.likely(random, lambda it: it.choice(["spring", "spring", "summer"]))
    plain = [
        "Dupont",
        "Mme",
        "fr",
        "en",
        "email=x",
        "nom=last_name",
        "utf-8",
        "cp1252",
        "D-1",
        "login",
        "accepted",
        "email",
        ";",
        "left",
    ]
    return values.likely(random, lambda it: it.choice(plain), 0.6)
